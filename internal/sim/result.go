package sim

// Result is how one policy did. Its JSON is a member of `policies` in what
// `kvasir replay --json` prints.
type Result struct {
	Name     string `json:"name"`
	Requests int    `json:"requests"`

	// HitRate is the share of prompt tokens that were not computed; HitRates has
	// it by the tier that they came from.
	HitRate  float64            `json:"hit_rate"`
	HitRates map[string]float64 `json:"hit_rates"`

	TTFTMeanMS float64 `json:"ttft_mean_ms"`
	TTFTP50MS  float64 `json:"ttft_p50_ms"`
	TTFTP99MS  float64 `json:"ttft_p99_ms"`
	TPOTMeanMS float64 `json:"tpot_mean_ms"`
	TPOTP99MS  float64 `json:"tpot_p99_ms"`

	// LoadMaxOverMean is the most requests that a worker got over their mean;
	// WorkMaxOverMean is the same of the time that their prompts took to compute.
	LoadMaxOverMean float64 `json:"load_max_over_mean"`
	WorkMaxOverMean float64 `json:"work_max_over_mean"`
	BusyShare       float64 `json:"busy_share"` // of the workers' time
	Preemptions     int     `json:"preemptions"`

	// Goodput counts the requests within both objectives.
	GoodputShare float64 `json:"goodput_share"`
	GoodputPerS  float64 `json:"goodput_per_s"`

	PredictionMS Prediction     `json:"prediction"`
	DurationS    float64        `json:"duration_s"` // virtual, to the last token
	DecisionUS   *DecisionTimes `json:"decision_us,omitempty"`

	Samples []Sample `json:"-"`
	ttft    []float64
}

// Prediction is how far the predicted TTFT was off.
type Prediction struct {
	MeanAbsMS float64 `json:"mean_abs_ms"`
	BiasMS    float64 `json:"bias_ms"` // observed - predicted
	Share     float64 `json:"share"`   // sum of absolute errors over sum of observed
}

// DecisionTimes are what decisions took on the machine that ran the replay:
// lookup, prices, choice and booking.
type DecisionTimes struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Sample is a moment of a run.
type Sample struct {
	AtSeconds float64
	LoadMean  float64 // requests on a worker
	LoadMax   float64
	HitRate   float64 // of the requests that ended since the sample before
}
