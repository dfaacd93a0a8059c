package metrics

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log/slog"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

var writeTo = flag.String("write", "", "a file for the metrics as text; see make alerts")

type noCluster struct{ projector.Cluster }

func TestMetrics(t *testing.T) {
	registry := NewRegistry("v1.2.3")
	fake := &rotationtest.Minter{}
	minter := NewMinter(registry, fake)
	observe := NewRotations(registry)
	RegisterClock(registry, func() (time.Time, bool) { return time.Now().Add(time.Hour), true })
	lookup := CountLookups(registry, func(context.Context, string, string) (string, error) { return "uid", nil })
	tokens, err := rotation.NewManager(minter, rotation.DefaultPolicy(), rotation.WithObserver(observe))
	if err != nil {
		t.Fatal(err)
	}
	p, err := projector.New(projector.Config{Root: "/r", Cluster: noCluster{}, Tokens: tokens, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	RegisterVolumes(registry, p, tokens)

	r := rotation.Request{Namespace: "ns", ServiceAccount: "sa", Pod: rotation.ObjectRef{UID: "u"}, Lifetime: time.Hour}
	grant, _, err := tokens.Get(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	fake.Behave(rotationtest.Behaviour{Err: errors.New("away")})
	r.Audience = "other"
	if _, _, err := tokens.Get(t.Context(), r); err == nil {
		t.Fatal("a failing minter gave a token")
	}

	observe(rotation.Rotation{Late: time.Second})
	if _, err := lookup(t.Context(), "ns", "sa"); err != nil {
		t.Fatal(err)
	}

	want := `
		# HELP projectord_volumes Volumes by phase.
		# TYPE projectord_volumes gauge
		projectord_volumes{phase="Degraded"} 0
		projectord_volumes{phase="Pending"} 0
		projectord_volumes{phase="Ready"} 0
	`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "projectord_volumes"); err != nil {
		t.Error(err)
	}
	values := map[string]float64{}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += "/" + l.GetValue()
			}
			values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"projectord_token_request_duration_seconds/success":    1,
		"projectord_token_request_duration_seconds/error":      1,
		"projectord_earliest_token_deadline_timestamp_seconds": float64(grant.Deadline().UnixMilli()) / 1000,
		"projectord_tokens":                                1,
		"projectord_expired_tokens":                        0,
		"projectord_held_volumes":                          0,
		"projectord_adoptions_total":                       0,
		"projectord_rotations_total/success":               1,
		"projectord_rotations_total/error":                 0, // it was no rotation
		"projectord_rotation_lateness_seconds":             1,
		"projectord_service_account_lookups_total/success": 1,
		"projectord_clock_offset_seconds":                  3600,
		"projectord_publications_total":                    0,
	} {
		if got, ok := values[name]; !ok || math.Abs(got-want) > 0.01 {
			t.Errorf("%s is %v, there %v; want %v", name, got, ok, want)
		}
	}

	if *writeTo != "" {
		write(t, onlyOurs{registry})
	}
	problems, err := testutil.GatherAndLint(onlyOurs{registry})
	if err != nil || len(problems) > 0 {
		t.Errorf("names or help texts are not by convention: %v, %v", problems, err)
	}
}

// write puts the metrics into a file, for promtool.
func write(t *testing.T, g prometheus.Gatherer) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(*writeTo, text.Bytes(), 0600); err != nil {
		t.Fatal(err)
	}
}

// onlyOurs leaves out the Go runtime's metrics, whose names are not ours.
type onlyOurs struct{ prometheus.Gatherer }

func (o onlyOurs) Gather() (families []*dto.MetricFamily, err error) {
	all, err := o.Gatherer.Gather()
	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "projectord_") {
			families = append(families, f)
		}
	}
	return families, err
}
