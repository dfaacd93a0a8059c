package bench

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// measured is when a Pod's creation was answered and its files were there.
type measured struct {
	pod                 string
	answered, published time.Time
}

// auditPolicy has the API server note each request that a Pod's files need.
const auditPolicy = `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
	{"level": "Request", "users": ["system:node:` + nodeName + `"], "verbs": ["create", "list"], "resources": [{"group": "", "resources": ["serviceaccounts/token", "configmaps"]}]},
	{"level": "None"}]}`

// auditLog is where the API server of the rig writes.
var auditLog string

func auditFlags(b *testing.B) []string {
	b.Helper()
	dir := b.TempDir()
	policy := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0600); err != nil {
		b.Fatal(err)
	}
	auditLog = filepath.Join(dir, "audit.log")
	return []string{"--audit-policy-file=" + policy, "--audit-log-path=" + auditLog, "--audit-log-mode=blocking"}
}

// request is one line of the audit log.
type request struct {
	Verb      string
	ObjectRef struct{ Resource, Subresource string }
	Status    struct{ Code int } `json:"responseStatus"`
	Received  time.Time          `json:"requestReceivedTimestamp"`
	Answered  time.Time          `json:"stageTimestamp"`
	Body      struct {
		Spec struct {
			BoundObjectRef struct{ Name string }
		}
	} `json:"requestObject"`
}

// breakdown prints where the time between a Pod's creation and its files goes,
// by the API server's own notes: until the first request, in requests that
// failed because a cache lagged and the waits after them, in the TokenRequest,
// in the ConfigMap's LIST beside it (for a namespace's first Pod only; later
// ones find it watched), and after the last answer.
func (r *rig) breakdown(pods []measured) {
	r.Helper()
	var watch, lag, mint, write []time.Duration
	var configMap time.Duration
	requests := r.audited()
	for _, p := range pods {
		var firstTry, lastTry, lastAnswer time.Time
		var minted time.Duration
		for _, q := range requests {
			if q.Received.Before(p.answered.Add(-10*time.Millisecond)) || q.Received.After(p.published) {
				continue
			}
			if q.ObjectRef.Resource == "configmaps" {
				configMap = q.Answered.Sub(q.Received)
				lastAnswer = latest(lastAnswer, q.Answered)
				continue
			}
			if q.Body.Spec.BoundObjectRef.Name != p.pod {
				continue
			}
			if firstTry.IsZero() {
				firstTry = q.Received
			}
			lastTry, minted = q.Received, q.Answered.Sub(q.Received)
			lastAnswer = latest(lastAnswer, q.Answered)
		}
		if firstTry.IsZero() {
			r.Fatalf("the audit log has no TokenRequest for Pod %s", p.pod)
		}
		watch = append(watch, firstTry.Sub(p.answered))
		lag = append(lag, lastTry.Sub(firstTry))
		mint = append(mint, minted)
		write = append(write, p.published.Sub(lastAnswer))
	}
	result(r.B, "pod_to_files_parts",
		fig("watch_p50_ms", "%.1f", ms(percentile(watch, 50))), fig("lag_p50_ms", "%.1f", ms(percentile(lag, 50))),
		fig("mint_p50_ms", "%.1f", ms(percentile(mint, 50))), fig("configmap_first_ms", "%.1f", ms(configMap)),
		fig("write_p50_ms", "%.1f", ms(percentile(write, 50))), fig("lag_p99_ms", "%.1f", ms(percentile(lag, 99))))
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (r *rig) audited() []request {
	r.Helper()
	f, err := os.Open(auditLog)
	r.must(err)
	defer func() { _ = f.Close() }()
	var out []request
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var q request
		r.must(json.Unmarshal(lines.Bytes(), &q))
		out = append(out, q)
	}
	r.must(lines.Err())
	return out
}
