package config

import "github.com/kvasir-ai/kvasir/internal/kv"

// Config is the whole file. The gateway (`kvasir serve`) reads listen, admin,
// models, workers, discovery, router and limits; an agent (`kvasir worker`)
// reads agent, tiers and discovery. One file may hold both.
type Config struct {
	// Address that clients talk to.
	Listen string `yaml:"listen"`
	// Address for metrics, pprof and the admin API. Absent: metrics and the
	// read-only admin API are on the main listener and pprof is off.
	Admin string `yaml:"admin"`
	// What clients may ask for.
	Models []Model `yaml:"models"`
	// The static fleet.
	Workers []Worker `yaml:"workers"`
	// Where the fleet is found besides `workers`, and where an agent registers.
	Discovery Discovery `yaml:"discovery"`
	// How requests are placed.
	Router Router `yaml:"router"`
	// Certificate that clients are shown. Absent: plain HTTP.
	TLS *TLS `yaml:"tls"`
	// How gateways and workers know each other. Absent: whoever reaches an agent may
	// call it, and whoever can write to etcd may register.
	Fleet *Fleet `yaml:"fleet"`
	// What the gateway accepts.
	Limits Limits `yaml:"limits"`
	// Who may use the gateway. Absent: everybody.
	Auth *Auth `yaml:"auth"`
	// An agent's tiers below the engine's own memory.
	Tiers Tiers `yaml:"tiers"`
	// The agent that `kvasir worker` runs.
	Agent Agent `yaml:"agent"`
	// Logs and traces.
	Telemetry Telemetry `yaml:"telemetry"`
}

// Model is one name that clients ask for.
type Model struct {
	// The name in requests. Workers serve it under the same name.
	Name string `yaml:"name"`
	// A folder with tokenizer.json, a tokenizer.json, or a .gguf file. Absent: a
	// worker's own if it is readable here, else the engine's /tokenize is asked
	// for every prompt.
	Tokenizer string `yaml:"tokenizer"`
}

// Worker is one engine of the static fleet.
type Worker struct {
	// Unique name of the worker.
	ID string `yaml:"id"`
	// Model that the engine serves; one of `models`.
	Model string `yaml:"model"`
	// Base URL of the engine's OpenAI API.
	URL string `yaml:"url"`
	// vllm, sglang, trtllm or embedded. Absent: recognized by what the engine
	// says of its models (owned_by); what is not recognized is taken for vLLM.
	Engine string `yaml:"engine"`
	// aggregated, prefill or decode: prefill workers compute long prompts and hand
	// their KV to decode workers, which answer. Absent: what the engine says, where
	// it does, else aggregated.
	Role kv.Role `yaml:"role"`
	// What moves KV from a vLLM prefill worker: nixl or mooncake. Absent: what the
	// engine says, where it does, else nixl.
	Connector string `yaml:"connector"`
	// Bootstrap server of an SGLang or Mooncake prefill worker, host:port. Absent:
	// asked of SGLang, else port 8998 of the URL's host.
	Bootstrap string `yaml:"bootstrap"`
	// Tokens in a KV block. Absent: asked of the agent or the engine.
	BlockSize int `yaml:"block_size"`
	// Data-parallel ranks of the engine (vLLM's --data-parallel-size). Each is a
	// worker of its own, ID/dp0 and so on, with a cache and a queue of its own.
	Ranks int `yaml:"ranks"`
	// The engine's KV event sockets. Absent: asked of the agent or the engine.
	Events Events `yaml:"events"`
	// gRPC address of the worker's agent: unix:///path or host:port. Absent: no
	// onboarding for this worker.
	Agent string `yaml:"agent"`
	// Key that the engine asks for (vLLM's --api-key). It is sent to the engine
	// and nowhere else.
	APIKey string `yaml:"api_key"`
	// Environment variable that holds the key, in place of api_key.
	APIKeyEnv string `yaml:"api_key_env"`
}

// Events names an engine's ZMQ sockets.
type Events struct {
	// PUB socket, tcp://host:port.
	Endpoint string `yaml:"endpoint"`
	// ROUTER socket for replay, tcp://host:port.
	Replay string `yaml:"replay"`
	// Topic prefix to subscribe to; empty for all.
	Topic string `yaml:"topic"`
}

// Discovery names further sources of the fleet.
type Discovery struct {
	// Workers registered in etcd under leases.
	Etcd *Etcd `yaml:"etcd"`
	// A YAML file with a list of workers, watched for changes.
	File string `yaml:"file"`
}

// Etcd is a connection to an etcd cluster.
type Etcd struct {
	// host:port of one or more members.
	Endpoints []string `yaml:"endpoints"`
	// Key prefix under which workers register.
	Prefix string `yaml:"prefix"`
	// User name, with `password`; absent: no authentication.
	Username string `yaml:"username"`
	// Password for `username`.
	Password string `yaml:"password"`
	// How long a registration outlives a silent worker.
	TTL Duration `yaml:"ttl"`
}

// Router is the placement policy.
type Router struct {
	// predicted, or a baseline: round-robin, random, least-loaded, session-hash,
	// prefix-only, dynamo, llm-d, smg.
	Policy string `yaml:"policy"`
	// Seed of the tie-breaker. The same inputs and seed give the same decision.
	Seed uint64 `yaml:"seed"`
}

// TLS is a certificate with its key, in PEM files that are read again when they
// change.
type TLS struct {
	// The certificate, with those between it and the authority.
	Cert string `yaml:"cert"`
	// Its key.
	Key string `yaml:"key"`
}

// Fleet is what gateways and workers share.
type Fleet struct {
	// Seals registrations in etcd, so that no stranger's is believed.
	Secret string `yaml:"secret"`
	// File that holds the secret, in its place.
	SecretFile string `yaml:"secret_file"`
	// Authority whose certificates gateways and agents take from each other over
	// TCP; needs cert and key too. Absent: plain text.
	CA string `yaml:"ca"`
	// This process's certificate, for its name or address.
	Cert string `yaml:"cert"`
	// Its key.
	Key string `yaml:"key"`
}

// Auth says who may use the gateway.
type Auth struct {
	// File with the tenants and the hashes of their keys; read again when it
	// changes.
	KeysFile string `yaml:"keys_file"`
}

// Limits bounds what the gateway takes on.
type Limits struct {
	// Largest request body; more is answered 413.
	Body Size `yaml:"body"`
	// How long a client may take to send its body, then 400.
	BodyTime Duration `yaml:"body_time"`
	// Requests in flight; more are answered 429 with Retry-After.
	InFlight int `yaml:"in_flight"`
	// Longest time to the first event of a stream, then 504; and longest wait in the
	// queue, then 429.
	FirstByte Duration `yaml:"first_byte"`
	// Longest silence of a worker within a stream, which then goes on at another
	// one where that is exact.
	Idle Duration `yaml:"idle"`
	// How long a request may be predicted to wait at the best worker before it waits
	// in the gateway instead, by priority and tenant. Below 0: all is sent at once.
	QueueAhead Duration `yaml:"queue_ahead"`
	// Requests of a model that may wait in the gateway; more are answered 429.
	Queue int `yaml:"queue"`
	// Size of their bodies in all.
	QueueBytes Size `yaml:"queue_bytes"`
	// Objective for the time to first token: requests predicted to miss it for
	// having to wait are answered 429 at once. 0: none.
	TTFT Duration `yaml:"ttft"`
	// How long a client may take nothing of its answer before it is given up.
	ClientStall Duration `yaml:"client_stall"`
	// Percentage of a model's workers that may be ejected at a time because they do
	// much worse than their peers. 0: none.
	EjectPercent int `yaml:"eject_percent"`
	// Longest whole request.
	Request Duration `yaml:"request"`
	// How often a stream may go on at another worker after its own died; below 0:
	// never, and engines are not asked for the ids of the tokens they generate.
	Migrations int `yaml:"migrations"`
	// How long after SIGTERM requests are still taken while /ready says no, for
	// load balancers to notice.
	DrainDelay Duration `yaml:"drain_delay"`
	// How long requests in flight may finish after that.
	Drain Duration `yaml:"drain"`
}

// Tiers are where a worker's block manager keeps blocks.
type Tiers struct {
	// Host memory, for example 4GiB. 0: none.
	CPU Size `yaml:"cpu"`
	// Which blocks a full tier gives up: lru, or arc, which also looks at how
	// often they were used.
	Eviction string `yaml:"eviction"`
	// A slab file on a local disk, found again after a restart.
	Disk *Disk `yaml:"disk"`
	// A Redis shared by the workers of a model.
	Redis *Redis `yaml:"redis"`
	// Workers of a model pull blocks from each other's cpu tier. true: those on
	// this machine, without a secret.
	Peer *Peer `yaml:"peer"`
}

// Disk is the disk tier.
type Disk struct {
	// Folder on a local disk. Each agent keeps its slab in a sub-folder named
	// after its id.
	Path string `yaml:"path"`
	// Further folders, each on a device of its own, with a slab of the same size.
	More []string `yaml:"more"`
	// Size of the slab.
	Size Size `yaml:"size"`
	// What may be written to each device a day, so that it lives as long as it
	// should. Absent: no limit.
	WritePerDay Size `yaml:"write_per_day"`
}

// Redis is the shared tier.
type Redis struct {
	// redis://[user:password@]host:port/db or rediss:// for TLS, or unix:///path.
	// A cluster: ?cluster=true, further nodes as &addr=host:port. Behind
	// sentinels: ?master_name=NAME, host and addr being sentinels.
	URL string `yaml:"url"`
	// Further servers; each block has its place on one of them.
	More []string `yaml:"more"`
	// File with the certificates that a rediss:// server's is checked with.
	// Absent: the system's.
	CA string `yaml:"ca"`
	// How long an unused block is kept.
	TTL Duration `yaml:"ttl"`
}

// Peer is the peer tier.
type Peer struct {
	// Address that blocks are lent at. Absent: a free port, for workers on this
	// machine only.
	Listen string `yaml:"listen"`
	// Address that other workers use when it differs from `listen`.
	Advertise string `yaml:"advertise"`
	// What all workers of the fleet must know to pull; needed where `listen` can
	// be reached from other machines.
	Secret string `yaml:"secret"`
	// File that holds the secret, in its place.
	SecretFile string `yaml:"secret_file"`
	// PEM files for TLS below the protocol: this worker's certificate, its key,
	// and the authority that has signed those of all. All three or none.
	Cert string `yaml:"cert"`
	// Key of `cert`.
	Key string `yaml:"key"`
	// Authority.
	CA string `yaml:"ca"`
}

// DefaultsWork implements switchable.
func (*Peer) DefaultsWork() {}

// Agent is what `kvasir worker` runs: a block manager and control API beside
// an engine, or, with engine embedded, the engine too.
type Agent struct {
	// Unique name of the worker.
	ID string `yaml:"id"`
	// embedded, or vllm for an engine that runs already.
	Engine string `yaml:"engine"`
	// Model name that the engine serves.
	Model string `yaml:"model"`
	// Role that it registers under: aggregated, prefill or decode.
	Role kv.Role `yaml:"role"`
	// Base URL of an engine that runs already.
	URL string `yaml:"url"`
	// gRPC address of the control API: unix:///path or host:port. Absent: a
	// socket named after the id in the folder for temporary files.
	Listen string `yaml:"listen"`
	// Address that gateways use when it differs from `listen`.
	Advertise string `yaml:"advertise"`
	// Address of the agent's Prometheus metrics; empty: none.
	Metrics string `yaml:"metrics"`
	// KV event sockets of an engine that runs already. Absent: asked of it.
	Events Events `yaml:"events"`
	// Unix socket for the plug-in of a vLLM that runs already (kvasir-vllm). With it
	// the agent keeps the engine's blocks in `tiers`.
	Plugin string `yaml:"plugin"`
	// Settings of the embedded engine.
	Embedded Embedded `yaml:"embedded"`
}

// Embedded is the built-in engine: for trying, testing and truth.
type Embedded struct {
	// A .gguf file or a Hugging Face folder; empty: the built-in tiny random
	// model.
	Model string `yaml:"model"`
	// Address of its OpenAI API.
	Listen string `yaml:"listen"`
	// Tokens in a KV block.
	BlockSize int `yaml:"block_size"`
	// KV pages of the engine, its gpu tier (memory of the host: device cpu).
	GPUBlocks int `yaml:"gpu_blocks"`
	// Longest context; 0: what the model was trained for.
	MaxContext int `yaml:"max_context"`
	// Compute threads; 0: one a core.
	Threads int `yaml:"threads"`
}

// Telemetry is how Kvasir shows what it does.
type Telemetry struct {
	// debug, info, warn or error.
	LogLevel string `yaml:"log_level"`
	// text or json.
	LogFormat string `yaml:"log_format"`
	// OTLP/HTTP endpoint for traces, for example http://127.0.0.1:4318. Absent:
	// no traces leave the process.
	OTLP string `yaml:"otlp"`
}
