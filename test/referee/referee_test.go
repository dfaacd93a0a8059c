package referee

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/token-projector/token-projector/rotation/rotationtest"
)

// TestRefereeSeesWhatIsWrong shows it files that are wrong in each way. A
// referee that can't blow its whistle proves nothing.
func TestRefereeSeesWhatIsWrong(t *testing.T) {
	token := func(id string, age, lifetime time.Duration) string {
		issued := time.Now().Add(-age)
		return rotationtest.JWT(fmt.Sprintf(`{"jti": %q, "iat": %d, "exp": %d}`, id, issued.Unix(), issued.Add(lifetime).Unix()))
	}
	tests := []struct {
		name     string
		contents []string // one after the other; "-" removes the file
		user     string   // whose token the API server says it is
		maxAge   time.Duration
		want     func(Report) bool
	}{
		{"all well", []string{token("1", 0, time.Hour)}, "right", 0,
			func(r Report) bool { return r.Tokens == 1 && r.Lapsed+r.WrongIdentity+r.Broken+len(r.Problems) == 0 }},
		{"rotated", []string{token("1", 0, time.Hour), token("2", 0, time.Hour)}, "right", 0,
			func(r Report) bool { return r.Rotations == 1 && len(r.Problems) == 0 }},
		{"lapsed", []string{token("1", 2*time.Hour, time.Hour)}, "right", 0, func(r Report) bool { return r.Lapsed > 0 }},
		{"older than it may be", []string{token("1", time.Minute, time.Hour)}, "right", time.Second, func(r Report) bool { return r.Lapsed > 0 }},
		{"torn", []string{"not a tok"}, "right", 0, func(r Report) bool { return r.Broken > 0 }},
		{"empty", []string{""}, "right", 0, func(r Report) bool { return r.Broken > 0 }},
		{"gone", []string{token("1", 0, time.Hour), "-"}, "right", 0, func(r Report) bool { return r.Broken > 0 }},
		{"somebody else's", []string{token("1", 0, time.Hour)}, "wrong", 0, func(r Report) bool { return r.WrongIdentity == 1 }},
		{"refused", []string{token("1", 0, time.Hour)}, "", 0, func(r Report) bool { return r.WrongIdentity == 1 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := fake.NewClientset()
			client.PrependReactor("create", "tokenreviews", func(ktesting.Action) (bool, runtime.Object, error) {
				return true, &authenticationv1.TokenReview{Status: authenticationv1.TokenReviewStatus{
					Authenticated: tt.user != "", User: authenticationv1.UserInfo{Username: tt.user},
				}}, nil
			})
			path := filepath.Join(t.TempDir(), "token")
			r := New(client, time.Millisecond, func(Change) {})
			r.Watch(File{Path: path, User: "right", MaxAge: tt.maxAge})
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { r.Run(ctx) })
			for _, content := range tt.contents {
				if content == "-" {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
					continue
				}
				next := path + ".next"
				if err := os.WriteFile(next, []byte(content), 0600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(next, path); err != nil {
					t.Fatal(err)
				}
				before := r.Report()
				eventually(t, r, func(now Report) bool { return now.Readings+now.Broken >= before.Readings+before.Broken+2 })
			}
			eventually(t, r, tt.want)
			cancel()
			wg.Wait()
			for _, problem := range r.Report().Problems {
				if !strings.HasPrefix(problem, path) {
					t.Errorf("problem %q does not name the file", problem)
				}
			}
		})
	}
}

// eventually waits until a report is as it should be.
func eventually(t *testing.T, r *Referee, ok func(Report) bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok(r.Report()) {
		if time.Now().After(deadline) {
			t.Fatalf("reported %+v", r.Report())
		}
		time.Sleep(time.Millisecond)
	}
}
