package e2e

import (
	"fmt"
	"testing"
	"time"
)

// Must show d: real etcd and Redis, two worker processes, a gateway process.
func TestFleetSurvivesItsParts(t *testing.T) {
	model := smollm2(t)
	redisPort, etcdPort, etcdPeer, etcdDir := freePort(t), freePort(t), freePort(t), t.TempDir()
	redis := redisServer(t, redisPort)
	etcd := etcdServer(t, etcdPort, etcdPeer, etcdDir)
	config := writeFile(t, "fleet.yaml", fmt.Sprintf(`
listen: 127.0.0.1:0
models: [{name: smol, tokenizer: %q}]
discovery: {etcd: {endpoints: ["127.0.0.1:%d"], ttl: 3s}}
agent: {model: smol, engine: embedded, embedded: {model: %q, gpu_blocks: 128, threads: 1}}
tiers: {cpu: 64MiB, redis: {url: "redis://127.0.0.1:%d/0"}}
`, model, etcdPort, model, redisPort))
	metricsPort := map[string]int{"w0": freePort(t), "w1": freePort(t), "w2": freePort(t)}
	worker := func(id string) *process {
		env := []string{"TMPDIR=" + t.TempDir(), fmt.Sprintf("KVASIR_AGENT_METRICS=127.0.0.1:%d", metricsPort[id])}
		return start(t, "worker "+id, env, binary, "worker", "--config", config, "--id", id)
	}
	workers := map[string]*process{"w0": worker("w0"), "w1": worker("w1")}
	g := ready(t, start(t, "gateway", nil, binary, "serve", "--config", config))
	g.awaitWorkers(2)

	c := g.talk("smol")
	first := c.say(essay("failover", 300), 8)
	g.eventually("the conversation is in Redis", func() error {
		if n := g.committed("redis"); n < first.prompt/16 {
			return fmt.Errorf("%d blocks", n)
		}
		return nil
	})

	t.Logf("kill -9 %s, which holds the conversation", first.worker)
	workers[first.worker].kill()
	second := c.say("Go on, in one sentence.", 8)
	e := g.explain(second.requestID)
	if second.worker == first.worker || e.Onboard == nil || e.Onboard.Blocks["redis"] < first.prompt/16-1 {
		t.Errorf("turn 2 on %s with %+v; want the other worker, and its %d tokens from Redis", second.worker, e.Onboard, first.prompt)
	}
	workers[first.worker] = worker(first.worker)
	g.awaitWorkers(2)

	t.Log("stop etcd: traffic goes on")
	etcd.kill()
	c.say("And then?", 8)
	g.talk("smol").say("Without etcd, does it work?", 8)

	t.Log("stop Redis: traffic goes on, misses are counted")
	redis.kill()
	for i := range 3 {
		g.talk("smol").say(essay(fmt.Sprintf("no redis %d", i), 60), 4)
	}
	g.eventually("what Redis did not take is counted", func() error {
		lost := 0.0
		for _, id := range []string{"w0", "w1"} {
			for _, outcome := range []string{"error", "dropped"} {
				n, err := metric(fmt.Sprintf("http://127.0.0.1:%d", metricsPort[id]), "kvasir_kvbm_link_blocks_total", `outcome="`+outcome+`",to="redis"`)
				if err != nil {
					return err
				}
				lost += n
			}
		}
		if lost == 0 {
			return fmt.Errorf("nothing is")
		}
		return nil
	})

	t.Log("start both: all recovers by itself")
	redisServer(t, redisPort)
	etcdServer(t, etcdPort, etcdPeer, etcdDir)
	deadline := time.Now().Add(30 * time.Second)
	for i := 0; ; i++ {
		before := g.committed("redis")
		g.talk("smol").say(essay(fmt.Sprintf("redis is back %d", i), 60), 4)
		if g.committed("redis") > before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no block reached Redis within 30 s of its return")
		}
	}
	workers["w2"] = worker("w2") // found through the etcd that came back
	g.awaitWorkers(3)
}
