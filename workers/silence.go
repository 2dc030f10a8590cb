package workers

import "time"

// silentBlocks is how many blocks' worth of prompt tokens an engine must have
// computed, and not announced, to be called silent.
const silentBlocks = 64

// silence looks for a worker that computes prompts but announces no blocks:
// what the index says of it is then worthless, and nobody would notice. Prompt
// tokens that were found in the cache rightly cause no event. It belongs to the
// goroutine that reports stats.
type silence struct {
	events   uint64 // seen applied when the watch began
	computed uint64 // prompt tokens computed by then
	since    time.Time
}

func (s *silence) observe(w *Worker, st Stats) {
	events := w.counters.events.Load()
	computed := st.CacheQueries - min(st.CacheHits, st.CacheQueries)
	restarted := computed < s.computed
	if s.since.IsZero() || events != s.events || restarted {
		*s = silence{events: events, computed: computed, since: st.At}
		if w.silent.Swap(false) {
			w.log.Info("worker sends events again")
		}
		return
	}
	tokens := uint64(silentBlocks * max(w.Info().BlockSize, 1))
	if computed-s.computed >= tokens && st.At.Sub(s.since) >= w.c.SilentAfter && !w.silent.Swap(true) {
		w.log.Warn("worker computes prompts but sends no KV events: it is routed to blindly; start the engine with KV events on",
			"prompt_tokens", computed-s.computed, "for", st.At.Sub(s.since))
	}
}
