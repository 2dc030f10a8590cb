package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kvasir-ai/kvasir/router"
)

// predictions shows when it is scraped how good the predictions are for each
// worker: an exponential mean over about its last hundred requests.
type predictions struct{ g *Gateway }

var (
	predictionsCount = prometheus.NewDesc("kvasir_router_predictions_total", "Predicted TTFTs that were compared with the observed one.", []string{"worker"}, nil)
	predictionError  = prometheus.NewDesc("kvasir_router_prediction_error_seconds", "Mean absolute difference of observed and predicted TTFT.", []string{"worker"}, nil)
	predictionBias   = prometheus.NewDesc("kvasir_router_prediction_bias_seconds", "Mean of observed less predicted TTFT: above 0 when too much is promised.", []string{"worker"}, nil)
	predictionShare  = prometheus.NewDesc("kvasir_router_prediction_error_ratio", "Mean absolute prediction error, as a share of the observed TTFT.", []string{"worker"}, nil)
)

func (predictions) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{predictionsCount, predictionError, predictionBias, predictionShare} {
		ch <- d
	}
}

func (p predictions) Collect(ch chan<- prometheus.Metric) {
	seats := p.g.seats()
	errors := make([]router.ErrorStats, len(seats))
	p.g.placing.Lock()
	for i, s := range seats {
		errors[i] = p.g.c.Calibration.Errors(s.id)
	}
	p.g.placing.Unlock()
	for i, s := range seats {
		e, worker := &errors[i], string(s.id)
		if e.Count == 0 {
			continue
		}
		ch <- prometheus.MustNewConstMetric(predictionsCount, prometheus.CounterValue, float64(e.Count), worker)
		ch <- prometheus.MustNewConstMetric(predictionError, prometheus.GaugeValue, e.MeanAbsMS/1000, worker)
		ch <- prometheus.MustNewConstMetric(predictionBias, prometheus.GaugeValue, e.BiasMS/1000, worker)
		ch <- prometheus.MustNewConstMetric(predictionShare, prometheus.GaugeValue, e.MeanShare, worker)
	}
}
