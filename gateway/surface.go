package gateway

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	openai "github.com/sashabaranov/go-openai"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/router"
	"github.com/kvasir-ai/kvasir/workers"
)

// modelCard is OpenAI's model with vLLM's context length.
type modelCard struct {
	openai.Model
	MaxModelLen int `json:"max_model_len,omitempty"`
}

func (g *Gateway) card(c *gin.Context, name string) modelCard {
	m := modelCard{Model: openai.Model{ID: name, Object: "model", OwnedBy: "kvasir", Root: name, Permission: []openai.Permission{}}}
	for _, w := range g.serving(name, nil) {
		m.MaxModelLen = max(m.MaxModelLen, g.contexts.of(c.Request.Context(), w))
	}
	return m
}

func (g *Gateway) listModels(c *gin.Context) {
	list := struct {
		Object string      `json:"object"`
		Data   []modelCard `json:"data"`
	}{"list", []modelCard{}}
	t := tenantOf(c.Request)
	for _, name := range g.models.names() {
		if t != nil && !t.May(name) {
			continue
		}
		list.Data = append(list.Data, g.card(c, name))
	}
	g.answer(c, list)
}

func (g *Gateway) getModel(c *gin.Context) {
	name := strings.TrimPrefix(c.Param("id"), "/")
	if err := g.models.check(name, tenantOf(c.Request)); err != nil {
		respond(c, err)
		return
	}
	g.answer(c, g.card(c, name))
}

// answer sends v as JSON.
func (g *Gateway) answer(c *gin.Context, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		g.c.Log.Error("an answer can't be written as JSON", "path", c.FullPath(), "error", err)
		respond(c, fail(CodeInternal, "", "internal error"))
		return
	}
	writeJSON(c.Writer, http.StatusOK, b)
}

// workerView is one entry of /kvasir/v1/workers.
type workerView struct {
	workers.Info
	State           string            `json:"state"`
	Ready           bool              `json:"ready"`
	EventsConnected bool              `json:"events_connected"`
	Silent          bool              `json:"silent"`
	TokenCheck      TokenCheck        `json:"token_check"`
	Load            router.Load       `json:"load"`
	Rates           router.Rates      `json:"rates"`
	Prediction      router.ErrorStats `json:"prediction_error"`
}

func (g *Gateway) listWorkers(c *gin.Context) {
	views := []workerView{}
	for _, s := range g.seats() {
		w := s.worker
		v := workerView{Info: w.Info(), State: w.State(), Ready: w.Ready(), EventsConnected: w.EventsConnected(), Silent: w.Silent(), TokenCheck: g.checker.last(w.ID()).check}
		g.placing.Lock()
		var c router.Candidate
		s.fillLocked(&c, g.loads, g.c.Now())
		v.Rates, v.Load = c.Rates, c.Load
		v.Prediction = g.c.Calibration.Errors(v.ID)
		g.placing.Unlock()
		views = append(views, v)
	}
	g.answer(c, gin.H{"workers": views})
}

func (g *Gateway) listDecisions(c *gin.Context) error {
	n := 50
	if s := c.Query("limit"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			return fail(CodeInvalidValue, "limit", `"limit" must be a positive number`)
		}
	}
	g.answer(c, gin.H{"decisions": g.records.latest(n)})
	return nil
}

func (g *Gateway) getDecision(c *gin.Context) error {
	r, ok := g.records.find(c.Param("id"))
	if !ok {
		return fail(CodeDecisionNotFound, "id", "no decision %q among the last %d", c.Param("id"), g.c.Records)
	}
	g.answer(c, r)
	return nil
}

func (g *Gateway) showIndex(c *gin.Context) {
	s := g.c.Index.Stats()
	g.answer(c, gin.H{
		"workers": s.Workers, "blocks": s.Blocks, "orphans": s.Orphans, "bytes": s.Bytes, "tiers": router.TierBlocks(s.Tiers),
	})
}

// tierView is one tier of one worker's block manager: what is in it, and the
// link that brings blocks up from it.
type tierView struct {
	Tier      kv.Tier   `json:"tier"`
	Capacity  int       `json:"capacity"`
	Free      int       `json:"free"`
	Filling   int       `json:"filling"`
	Committed int       `json:"committed"`
	Evicting  int       `json:"evicting"`
	Leased    int       `json:"leased"`
	Hits      uint64    `json:"hits"`
	Misses    uint64    `json:"misses"`
	Stored    uint64    `json:"stored"`
	Evicted   uint64    `json:"evicted"`
	Corrupt   uint64    `json:"corrupt"`
	Up        *linkView `json:"up,omitempty"`
}

type linkView struct {
	Usable         bool    `json:"usable"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	LatencyMS      float64 `json:"latency_ms"`
	QueuedBytes    int64   `json:"queued_bytes"`
	Blocks         uint64  `json:"blocks"`
	Bytes          uint64  `json:"bytes"`
	Errors         uint64  `json:"errors"`
	Dropped        uint64  `json:"dropped"`
}

func viewTier(t kv.Tier, s workers.TierStats, l workers.LinkStats) tierView {
	v := tierView{
		Tier: t, Capacity: s.Capacity, Free: s.Free, Filling: s.Filling, Committed: s.Committed, Evicting: s.Evicting, Leased: s.Leased,
		Hits: s.Hits, Misses: s.Misses, Stored: s.Stored, Evicted: s.Evicted, Corrupt: s.Corrupt,
	}
	if l != (workers.LinkStats{}) {
		v.Up = &linkView{
			Usable: l.Up, BytesPerSecond: l.BytesPerSecond, LatencyMS: milliseconds(l.Latency), QueuedBytes: l.QueuedBytes,
			Blocks: l.Blocks, Bytes: l.Bytes, Errors: l.Errors, Dropped: l.Dropped,
		}
	}
	return v
}

func (g *Gateway) listTiers(c *gin.Context) {
	type view struct {
		Worker      kv.WorkerID `json:"worker"`
		BlockBytes  int         `json:"block_bytes"`
		SharedStore string      `json:"shared_store,omitempty"`
		Tiers       []tierView  `json:"tiers"`
	}
	views := []view{}
	for _, w := range g.c.Fleet.Workers() {
		s := w.Stats()
		v := view{Worker: w.ID(), BlockBytes: s.BlockBytes, SharedStore: s.SharedStore, Tiers: []tierView{}}
		for t := range kv.NumTiers {
			if s.Tiers[t] != (workers.TierStats{}) || s.Links[t] != (workers.LinkStats{}) {
				v.Tiers = append(v.Tiers, viewTier(t, s.Tiers[t], s.Links[t]))
			}
		}
		views = append(views, v)
	}
	g.answer(c, gin.H{"workers": views})
}
