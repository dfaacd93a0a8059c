package integration

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestTheServersOwnCounters: a client that reads the file anew never uses a
// stale token, by the API server's own count; one that keeps its first token
// past warnafter does.
func TestTheServersOwnCounters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, startCluster(t))
	w.startReady("--rotation-max-age=10s")
	pod := w.create(w.newPod("pod"))
	f := w.tokenFiles(pod)[0]
	token := w.waitFile(f.Path)
	valid := w.serverCount("serviceaccount_valid_tokens_total")
	for range 3 {
		w.authenticate(token)
		last := token
		w.eventually("a rotation", func() bool { token = w.waitFile(f.Path); return token != last })
	}
	if n := w.serverCount("serviceaccount_valid_tokens_total") - valid; n < 3 {
		t.Errorf("the API server counted %d valid tokens more, want at least 3", n)
	}
	for _, name := range []string{"serviceaccount_stale_tokens_total", "serviceaccount_legacy_tokens_total"} {
		if n := w.serverCount(name); n != 0 {
			t.Errorf("%s is %d, want 0", name, n)
		}
	}

	const shown = "^serviceaccount_(stale|legacy)_tokens_total"
	doc := w.newDocument()
	before := w.metricLines(shown)
	w.authenticate(w.aged(token, 2*time.Hour))
	doc.put("counters", "$ kubectl get --raw /metrics | grep -E '"+shown+"'\n"+before+
		"$ # now a client that kept its token for two hours makes a request\n"+
		"$ kubectl get --raw /metrics | grep -E '"+shown+"'\n"+w.metricLines(shown))
	doc.compare()
	if n := w.serverCount("serviceaccount_stale_tokens_total"); n != 1 {
		t.Errorf("after a client that kept its token for two hours serviceaccount_stale_tokens_total is %d, want 1", n)
	}
}

// authenticate makes a request with a token, which must be accepted.
func (w *world) authenticate(token string) {
	w.Helper()
	cfg := rest.AnonymousClientConfig(w.cluster.AdminConfig())
	cfg.BearerToken = token
	client, err := kubernetes.NewForConfig(cfg)
	w.must(err)
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(w.ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	w.must(err)
	if user := review.Status.UserInfo.Username; user != "system:serviceaccount:"+w.ns+":default" {
		w.Errorf("the token is of %q", user)
	}
}

// aged is the same token as if it had been issued some time ago, signed with
// the cluster's own key, which the test has.
func (w *world) aged(token string, by time.Duration) string {
	w.Helper()
	signed, err := w.cluster.Resign(token, func(claims map[string]any) {
		private := claims["kubernetes.io"].(map[string]any)
		for _, c := range []struct {
			in   map[string]any
			name string
		}{{claims, "iat"}, {claims, "nbf"}, {claims, "exp"}, {private, "warnafter"}} {
			if at, ok := c.in[c.name].(float64); ok { // not every token has warnafter
				c.in[c.name] = int64(at - by.Seconds())
			}
		}
	})
	w.must(err)
	return signed
}

// serverCount is one of the API server's counters, all its labels summed. A
// counter that has not counted yet may be absent.
func (w *world) serverCount(name string) int {
	w.Helper()
	return w.serverSum(func(line string) bool {
		return strings.HasPrefix(line, name+" ") || strings.HasPrefix(line, name+"{")
	})
}

// serverSum sums the API server's metrics whose lines match.
func (w *world) serverSum(match func(line string) bool) int {
	w.Helper()
	total := 0
	for line := range strings.Lines(w.metrics()) {
		if line = strings.TrimSpace(line); match(line) {
			value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			w.must(err)
			total += int(value)
		}
	}
	return total
}

// metrics is what the API server counts, as text.
func (w *world) metrics() string {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	body, err := w.client.Discovery().RESTClient().Get().AbsPath("/metrics").Do(ctx).Raw()
	w.must(err)
	return string(body)
}

// metricLines are the API server's metrics that match.
func (w *world) metricLines(pattern string) string {
	w.Helper()
	matching := regexp.MustCompile(pattern)
	var lines strings.Builder
	for line := range strings.Lines(w.metrics()) {
		if matching.MatchString(line) {
			lines.WriteString(line)
		}
	}
	return lines.String()
}
