package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/token-projector/token-projector/internal/names"
	"github.com/token-projector/token-projector/rotation"
)

// Minter counts and times the token requests of another Minter.
type Minter struct {
	next        rotation.Minter
	duration    *prometheus.HistogramVec
	lastSuccess prometheus.Gauge
}

// NewMinter wraps next and registers its metrics.
func NewMinter(r prometheus.Registerer, next rotation.Minter) *Minter {
	m := &Minter{next: next, lastSuccess: prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: names.MetricsNamespace, Name: "last_token_request_success_timestamp_seconds",
		Help: "When the API server last granted a token, as seconds since 1970; 0 if it has not yet.",
	}), duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: names.MetricsNamespace, Name: "token_request_duration_seconds",
		Help:    "Time that TokenRequests took, without waiting for a place in the rate limit, by result.",
		Buckets: []float64{.0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"result"})}
	for _, result := range []string{resultSuccess, resultError} {
		m.duration.WithLabelValues(result)
	}
	r.MustRegister(m.duration, m.lastSuccess)
	return m
}

const (
	resultSuccess = "success"
	resultError   = "error"
)

// Mint implements rotation.Minter.
func (m *Minter) Mint(ctx context.Context, r rotation.Request, accountUID string) (rotation.Token, time.Time, error) {
	start := time.Now()
	token, expires, err := m.next.Mint(ctx, r, accountUID)
	result := resultSuccess
	if err != nil {
		result = resultError
	}
	if err == nil {
		m.lastSuccess.Set(seconds(time.Now()))
	}
	m.duration.WithLabelValues(result).Observe(time.Since(start).Seconds())
	return token, expires, err
}
