// Package metrics gives the daemon's state and work to Prometheus. It measures
// from outside: the packages that do the work know nothing of it.
package metrics

import (
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

// volumes reads the projector's state at each scrape.
type volumes struct {
	projector *projector.Projector
	tokens    *rotation.Manager

	byPhase, held, failingSince, adopted, published, removed, failed, tokensHeld, expired, deadline *prometheus.Desc
}

// RegisterVolumes registers the metrics of volumes and tokens.
func RegisterVolumes(r prometheus.Registerer, p *projector.Projector, m *rotation.Manager) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(names.MetricsNamespace+"_"+name, help, labels, nil)
	}
	r.MustRegister(&volumes{
		projector: p, tokens: m,
		byPhase:      desc("volumes", "Volumes by phase.", "phase"),
		held:         desc("held_volumes", "Volumes whose Pods are gone and that stay for a while, because so many went at once."),
		failingSince: desc("oldest_failure_timestamp_seconds", "When the oldest problem that a volume has now began, as seconds since 1970; absent without one."),
		adopted:      desc("adoptions_total", "Volumes of an earlier process that were taken over."),
		tokensHeld:   desc("tokens", "Tokens that are kept current."),
		expired:      desc("expired_tokens", "Tokens whose deadline has passed and that could not be replaced."),
		published:    desc("publications_total", "Generations of volumes that were written."),
		removed:      desc("volumes_removed_total", "Volumes that were removed because they were no longer wanted."),
		failed:       desc("failed_passes_total", "Passes over a volume that ended with an error and are tried again."),
		deadline:     desc("earliest_token_deadline_timestamp_seconds", "When the first of all held tokens lapses unless it is rotated, as seconds since 1970 on the node's clock; absent without tokens."),
	})
}

// Describe implements prometheus.Collector.
func (v *volumes) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(v, ch) }

// Collect implements prometheus.Collector.
func (v *volumes) Collect(ch chan<- prometheus.Metric) {
	counts := map[projector.Phase]int{projector.PhasePending: 0, projector.PhaseReady: 0, projector.PhaseDegraded: 0}
	held := 0
	var oldest time.Time
	for _, status := range v.projector.Volumes() {
		counts[status.Phase]++
		if status.Held {
			held++
		}
		if since := status.FailingSince; !since.IsZero() && (oldest.IsZero() || since.Before(oldest)) {
			oldest = since
		}
	}
	for phase, n := range counts {
		ch <- prometheus.MustNewConstMetric(v.byPhase, prometheus.GaugeValue, float64(n), string(phase))
	}
	gauge := func(d *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
	counter := func(d *prometheus.Desc, value uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
	}
	gauge(v.held, float64(held))
	if !oldest.IsZero() {
		gauge(v.failingSince, seconds(oldest))
	}
	stats := v.projector.Stats()
	counter(v.adopted, stats.Adopted)
	counter(v.published, stats.Published)
	counter(v.removed, stats.Removed)
	counter(v.failed, stats.Failed)
	tokens, expired, deadline := v.tokens.Held()
	gauge(v.tokensHeld, float64(tokens))
	gauge(v.expired, float64(expired))
	if tokens > 0 {
		gauge(v.deadline, seconds(deadline))
	}
}

// seconds is a moment as Prometheus has it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
