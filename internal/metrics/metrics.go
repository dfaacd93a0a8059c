// Package metrics gives the daemon's state and work to Prometheus. It measures
// from outside: the packages that do the work know nothing of it.
package metrics

import (
	"context"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/token-projector/token-projector/internal/names"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/rotation"
)

// NewRegistry returns a registry with what is known of any process.
func NewRegistry(version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: names.MetricsNamespace, Name: "build_info",
		Help:        "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	})
	info.Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info)
	return r
}

// Minter counts and times the token requests of another Minter.
type Minter struct {
	next     rotation.Minter
	duration *prometheus.HistogramVec
}

// NewMinter wraps next and registers its metrics.
func NewMinter(r prometheus.Registerer, next rotation.Minter) *Minter {
	m := &Minter{next: next, duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: names.MetricsNamespace, Name: "token_request_duration_seconds",
		Help:    "Time that TokenRequests took, waiting for the client's own rate limit included, by result.",
		Buckets: []float64{.0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"result"})}
	for _, result := range []string{resultSuccess, resultError} {
		m.duration.WithLabelValues(result)
	}
	r.MustRegister(m.duration)
	return m
}

const (
	resultSuccess = "success"
	resultError   = "error"
)

// Mint implements rotation.Minter.
func (m *Minter) Mint(ctx context.Context, r rotation.Request) (rotation.Token, time.Time, error) {
	start := time.Now()
	token, expires, err := m.next.Mint(ctx, r)
	result := resultSuccess
	if err != nil {
		result = resultError
	}
	m.duration.WithLabelValues(result).Observe(time.Since(start).Seconds())
	return token, expires, err
}

// volumes reads the projector's state at each scrape.
type volumes struct {
	projector *projector.Projector
	tokens    *rotation.Manager

	byPhase, published, removed, failed, deadline *prometheus.Desc
}

// RegisterVolumes registers the metrics of volumes and tokens.
func RegisterVolumes(r prometheus.Registerer, p *projector.Projector, m *rotation.Manager) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(names.MetricsNamespace+"_"+name, help, labels, nil)
	}
	r.MustRegister(&volumes{
		projector: p, tokens: m,
		byPhase:   desc("volumes", "Volumes by phase.", "phase"),
		published: desc("publications_total", "Generations of volumes that were written."),
		removed:   desc("volumes_removed_total", "Volumes that were removed because they were no longer wanted."),
		failed:    desc("failed_passes_total", "Passes over a volume that ended with an error and are tried again."),
		deadline:  desc("earliest_token_deadline_timestamp_seconds", "When the first of all held tokens lapses unless it is rotated, as seconds since 1970 on the node's clock; absent without tokens."),
	})
}

// Describe implements prometheus.Collector.
func (v *volumes) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(v, ch) }

// Collect implements prometheus.Collector.
func (v *volumes) Collect(ch chan<- prometheus.Metric) {
	counts := map[projector.Phase]int{projector.PhasePending: 0, projector.PhaseReady: 0, projector.PhaseDegraded: 0}
	for _, status := range v.projector.Volumes() {
		counts[status.Phase]++
	}
	for phase, n := range counts {
		ch <- prometheus.MustNewConstMetric(v.byPhase, prometheus.GaugeValue, float64(n), string(phase))
	}
	stats := v.projector.Stats()
	ch <- prometheus.MustNewConstMetric(v.published, prometheus.CounterValue, float64(stats.Published))
	ch <- prometheus.MustNewConstMetric(v.removed, prometheus.CounterValue, float64(stats.Removed))
	ch <- prometheus.MustNewConstMetric(v.failed, prometheus.CounterValue, float64(stats.Failed))
	if deadline, ok := v.tokens.EarliestDeadline(); ok {
		ch <- prometheus.MustNewConstMetric(v.deadline, prometheus.GaugeValue, float64(deadline.Unix()))
	}
}
