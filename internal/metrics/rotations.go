package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/token-projector/token-projector/internal/names"
	"github.com/token-projector/token-projector/rotation"
)

// NewRotations registers the metrics of rotations and returns what to tell of
// each; see rotation.WithObserver.
func NewRotations(r prometheus.Registerer) func(rotation.Rotation) {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: names.MetricsNamespace, Name: "rotations_total",
		Help: "Attempts to replace a token that is due, by result.",
	}, []string{"result"})
	for _, result := range []string{resultSuccess, resultError} {
		total.WithLabelValues(result)
	}
	late := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: names.MetricsNamespace, Name: "rotation_lateness_seconds",
		Help:    "How long after it was due a token was replaced.",
		Buckets: []float64{.01, .1, 1, 10, 60, 300, 1800, 7200},
	})
	r.MustRegister(total, late)
	return func(done rotation.Rotation) {
		switch {
		case done.First:
		case done.Err != nil:
			total.WithLabelValues(resultError).Inc()
		default:
			total.WithLabelValues(resultSuccess).Inc()
			late.Observe(done.Late.Seconds())
		}
	}
}

// RegisterClock registers how far the API server's clock is ahead of the node's.
func RegisterClock(r prometheus.Registerer, serverTime func() (time.Time, bool)) {
	r.MustRegister(&clock{serverTime: serverTime, offset: prometheus.NewDesc(
		names.MetricsNamespace+"_clock_offset_seconds",
		"How far the API server's clock is ahead of the node's, to about a second; absent until it is known.", nil, nil)})
}

type clock struct {
	serverTime func() (time.Time, bool)
	offset     *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *clock) Describe(ch chan<- *prometheus.Desc) { ch <- c.offset }

// Collect implements prometheus.Collector.
func (c *clock) Collect(ch chan<- prometheus.Metric) {
	if now, known := c.serverTime(); known {
		// By the wall clock: Round(0) takes the other reading away.
		ch <- prometheus.MustNewConstMetric(c.offset, prometheus.GaugeValue, now.Round(0).Sub(time.Now().Round(0)).Seconds())
	}
}

// CountLookups counts the calls of a lookup of ServiceAccounts.
func CountLookups(r prometheus.Registerer, lookup func(ctx context.Context, namespace, name string) (string, error)) func(context.Context, string, string) (string, error) {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: names.MetricsNamespace, Name: "service_account_lookups_total",
		Help: "Lookups of ServiceAccounts, to find out whether one was deleted and created again, by result.",
	}, []string{"result"})
	for _, result := range []string{resultSuccess, resultError} {
		total.WithLabelValues(result)
	}
	r.MustRegister(total)
	return func(ctx context.Context, namespace, name string) (string, error) {
		uid, err := lookup(ctx, namespace, name)
		result := resultSuccess
		if err != nil {
			result = resultError
		}
		total.WithLabelValues(result).Inc()
		return uid, err
	}
}
