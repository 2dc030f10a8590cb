package loadgen

import (
	"slices"
	"time"
)

// Report is a run's outcome.
type Report struct {
	Model     string         `json:"model"`
	Seed      uint64         `json:"seed"`
	DurationS float64        `json:"duration_s"`
	Targets   []TargetReport `json:"targets"`
	// The first target's figures stand at the top, too: most runs have one.
	TargetFigures
	// Paired are differences to the first target, turn by turn.
	Paired []Pair `json:"paired,omitempty"`
}

// TargetReport is one target's figures.
type TargetReport struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	TargetFigures
}

// TargetFigures are what clients of a target saw.
type TargetFigures struct {
	Requests int `json:"requests"` // begun
	Errors   int `json:"errors"`
	// FirstErrors are the texts of up to five different ones.
	FirstErrors []string `json:"first_errors,omitempty"`

	TTFTMS Spread `json:"ttft_ms"` // from when a request was due to its first content
	TPOTMS Spread `json:"tpot_ms"` // mean time between an answer's tokens after the first
	E2EMS  Spread `json:"e2e_ms"`
	LateMS Spread `json:"late_ms"` // how late the generator itself sent

	PromptTokens     int     `json:"prompt_tokens"`
	OutputTokens     int     `json:"output_tokens"`
	CachedTokenShare float64 `json:"cached_token_share"` // of prompt tokens, as engines report; -1: none did
	ReqPerS          float64 `json:"req_per_s"`
	OutputTokPerS    float64 `json:"output_tok_per_s"`
	// PredictionErrorMS is |observed - predicted TTFT| where the gateway's
	// answers carry a prediction.
	PredictionErrorMS *Spread `json:"prediction_error_ms,omitempty"`

	// Of the target's process, where one was named.
	CPUMSPerRequest *float64 `json:"cpu_ms_per_request,omitempty"`
	CPUUSPerEvent   *float64 `json:"cpu_us_per_event,omitempty"`
	RSSMiB          *float64 `json:"rss_mib,omitempty"`

	events int
}

// Pair is a target against the first, over turns that both answered.
type Pair struct {
	Target string `json:"target"`
	Base   string `json:"base"`
	Turns  int    `json:"turns"`
	TTFTMS Spread `json:"ttft_ms"` // target - base
	E2EMS  Spread `json:"e2e_ms"`
}

// Spread describes many values.
type Spread struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

// spread sorts values. Percentiles are the nearest rank's.
func spread(values []float64) (s Spread) {
	if len(values) == 0 {
		return s
	}
	slices.Sort(values)
	for _, v := range values {
		s.Mean += v
	}
	s.Mean /= float64(len(values))
	at := func(percent int) float64 { return values[(len(values)*percent+99)/100-1] }
	s.P50, s.P90, s.P99, s.Max = at(50), at(90), at(99), values[len(values)-1]
	return s
}

func (r *run) report(end time.Time, usages []*usage) (*Report, error) {
	report := &Report{Model: r.client.model, Seed: r.o.Seed, DurationS: end.Sub(r.began).Seconds()}
	for i, t := range r.o.Targets {
		f := figures(r.samples, i, report.DurationS)
		f.take(usages[i])
		report.Targets = append(report.Targets, TargetReport{t.Name, t.URL, f})
		if i > 0 {
			report.Paired = append(report.Paired, r.pair(i))
		}
	}
	report.TargetFigures = report.Targets[0].TargetFigures
	return report, nil
}

// figures sums up one target's samples.
func figures(samples []sample, target int, seconds float64) TargetFigures {
	var f TargetFigures
	var ttft, tpot, e2e, late, off []float64
	cached, told := 0, 0
	for i := range samples {
		s := &samples[i]
		if s.target != target {
			continue
		}
		f.Requests++
		late = append(late, ms(s.begun.Sub(s.due)))
		if s.err != nil {
			f.Errors++
			if text := s.err.Error(); len(f.FirstErrors) < 5 && !slices.Contains(f.FirstErrors, text) {
				f.FirstErrors = append(f.FirstErrors, text)
			}
			continue
		}
		a := s.reply
		tokens := max(a.output, a.events)
		ttft = append(ttft, ms(a.first.Sub(s.due)))
		e2e = append(e2e, ms(s.ended.Sub(s.due)))
		if tokens > 1 {
			tpot = append(tpot, ms(a.last.Sub(a.first))/float64(tokens-1))
		}
		if a.predictedMS >= 0 {
			off = append(off, abs(ms(a.first.Sub(s.begun))-a.predictedMS))
		}
		f.events += a.events
		f.PromptTokens += a.prompt
		f.OutputTokens += tokens
		if a.cached >= 0 {
			cached, told = cached+a.cached, told+a.prompt
		}
	}
	f.TTFTMS, f.TPOTMS, f.E2EMS, f.LateMS = spread(ttft), spread(tpot), spread(e2e), spread(late)
	f.CachedTokenShare = -1
	if told > 0 {
		f.CachedTokenShare = float64(cached) / float64(told)
	}
	if len(off) > 0 {
		s := spread(off)
		f.PredictionErrorMS = &s
	}
	f.ReqPerS = float64(f.Requests-f.Errors) / seconds
	f.OutputTokPerS = float64(f.OutputTokens) / seconds
	return f
}

func (f *TargetFigures) take(u *usage) {
	if u == nil || f.Requests == 0 {
		return
	}
	perRequest, rss := ms(u.cpu)/float64(f.Requests), float64(u.rss)/(1<<20)
	f.CPUMSPerRequest, f.RSSMiB = &perRequest, &rss
	if f.events > 0 {
		perEvent := 1000 * ms(u.cpu) / float64(f.events)
		f.CPUUSPerEvent = &perEvent
	}
}

// pair compares a target with the first, turn by turn.
func (r *run) pair(target int) Pair {
	base := map[int]*sample{}
	for i := range r.samples {
		if s := &r.samples[i]; s.target == 0 && s.err == nil {
			base[s.turn] = s
		}
	}
	var ttft, e2e []float64
	for i := range r.samples {
		s := &r.samples[i]
		b := base[s.turn]
		if s.target != target || s.err != nil || b == nil {
			continue
		}
		ttft = append(ttft, ms(s.reply.first.Sub(s.due))-ms(b.reply.first.Sub(b.due)))
		e2e = append(e2e, ms(s.ended.Sub(s.due))-ms(b.ended.Sub(b.due)))
	}
	return Pair{Target: r.o.Targets[target].Name, Base: r.o.Targets[0].Name, Turns: len(ttft), TTFTMS: spread(ttft), E2EMS: spread(e2e)}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func abs(x float64) float64 { return max(x, -x) }
