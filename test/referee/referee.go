// Package referee watches token files from outside: it reads each file again
// and again, asks the API server about each new token, and counts what should
// not be. It knows nothing of projectord but where files should be.
package referee

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/token-projector/token-projector/rotation"
)

// File is a token file and what its token must be.
type File struct {
	Path     string
	User     string // such as system:serviceaccount:ns:name
	PodName  string
	PodUID   string
	Audience string // empty: the API server's own
	// Lifetime is what the Pod asks for; 0 if it does not say.
	Lifetime time.Duration
	// MaxAge is the age from which a token counts as lapsed, besides its own
	// deadline; 0 is none.
	MaxAge time.Duration
}

// Change is a token that was seen for the first time.
type Change struct {
	File   File
	First  bool // the file's first token
	Claims rotation.Claims
	// PreviousAge is how old the token before it was when this one came.
	PreviousAge time.Duration
}

// Report is what was counted.
type Report struct {
	Readings, Tokens, Rotations   int
	Lapsed, WrongIdentity, Broken int
	// RotationsOf counts by path.
	RotationsOf map[string]int
	// Excused is how long tokens were not counted as lapsed.
	Excused time.Duration
	// Problems says what was wrong, each thing once.
	Problems []string
}

// Referee watches files. Make it with New. Its methods may be called
// concurrently.
type Referee struct {
	client   kubernetes.Interface
	interval time.Duration
	onChange func(Change)

	reviews sync.WaitGroup // that are under way

	mu      sync.Mutex
	files   map[string]*watched
	report  Report
	excused time.Time
}

type watched struct {
	File
	seen   bool // a first token
	text   string
	claims rotation.Claims
}

// New returns a referee that reads each file once an interval and tells
// onChange of each new token.
func New(client kubernetes.Interface, interval time.Duration, onChange func(Change)) *Referee {
	return &Referee{
		client: client, interval: interval, onChange: onChange, files: map[string]*watched{},
		report: Report{RotationsOf: map[string]int{}},
	}
}

// Watch adds a file, which may not exist yet. From its first token on it must
// exist.
func (r *Referee) Watch(f File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[f.Path] = &watched{File: f}
}

// Release ends the watch of a file.
func (r *Referee) Release(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.files, path)
}

// Excuse has no token counted as lapsed for a while: after the one fault that
// makes tokens lapse without notice, the API server's clock being set. It is
// part of the result.
func (r *Referee) Excuse(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.excused = time.Now().Add(d)
	r.report.Excused += d
}

// ReviewAll asks the API server about the token in each file as it is now, and
// counts those that it refuses.
func (r *Referee) ReviewAll(ctx context.Context) {
	for _, f := range r.current() {
		content, err := os.ReadFile(f.Path)
		if err == nil {
			err = Review(ctx, r.client, f.File, string(content))
		}
		if err != nil && ctx.Err() == nil {
			r.count(func(c *Report) *int { return &c.WrongIdentity }, f, err.Error())
		}
	}
}

// Report is what was counted so far.
func (r *Referee) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.report
	report.Problems = slices.Clone(report.Problems)
	report.RotationsOf = maps.Clone(report.RotationsOf)
	return report
}

// Run reads until ctx ends, and waits for the reviews that are under way.
func (r *Referee) Run(ctx context.Context) {
	defer r.reviews.Wait()
	ticker := time.NewTicker(r.interval)
	defer ticker.Stop()
	for {
		for _, f := range r.current() {
			r.read(ctx, f)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *Referee) current() []*watched {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*watched
	for _, f := range r.files {
		out = append(out, f)
	}
	return out
}

// read looks at one file. Only Run's goroutine uses a watched's token.
func (r *Referee) read(ctx context.Context, f *watched) {
	content, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) && !f.seen {
		return
	}
	if err != nil {
		r.count(func(c *Report) *int { return &c.Broken }, f, "can't be read: "+err.Error())
		return
	}
	r.count(func(c *Report) *int { return &c.Readings }, f, "")
	text := string(content)
	if text != f.text || !f.seen {
		claims, err := rotation.ParseClaims(text)
		if err != nil {
			r.count(func(c *Report) *int { return &c.Broken }, f, "is no whole token: "+err.Error())
			return
		}
		r.change(ctx, f, text, claims)
	}
	r.mu.Lock()
	excused := time.Now().Before(r.excused)
	r.mu.Unlock()
	if age := time.Since(f.claims.IssuedAt); !excused && (age > f.claims.Lifetime() || f.MaxAge > 0 && age > f.MaxAge) {
		r.count(func(c *Report) *int { return &c.Lapsed }, f, "holds a token that has lapsed")
	}
}

// change takes note of a new token and asks the API server whose it is.
func (r *Referee) change(ctx context.Context, f *watched, text string, claims rotation.Claims) {
	change := Change{File: f.File, First: !f.seen, Claims: claims}
	r.count(func(c *Report) *int { return &c.Tokens }, f, "")
	if !change.First {
		change.PreviousAge = time.Since(f.claims.IssuedAt)
		r.count(func(c *Report) *int { c.RotationsOf[f.Path]++; return &c.Rotations }, f, "")
	}
	f.seen, f.text, f.claims = true, text, claims
	r.reviews.Go(func() { // an API server that is slow must not stop the readings
		if err := r.review(ctx, f.File, text, claims); err != nil && ctx.Err() == nil {
			r.count(func(c *Report) *int { return &c.WrongIdentity }, f, err.Error())
		}
	})
	r.onChange(change)
}

// review is Review, again and again while the API server is away and the token
// should be valid.
func (r *Referee) review(ctx context.Context, f File, text string, claims rotation.Claims) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := Review(attempt, r.client, f, text)
		cancel()
		if !errors.Is(err, errNotAsked) || ctx.Err() != nil {
			return err
		}
		if time.Since(claims.IssuedAt) > claims.Lifetime() {
			return nil // nobody can say any more
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// count adds one, and remembers what is wrong, if something is.
func (r *Referee) count(which func(*Report) *int, f *watched, problem string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files[f.Path] != f {
		return // released meanwhile
	}
	*which(&r.report)++
	if text := f.Path + " " + problem; problem != "" && !slices.Contains(r.report.Problems, text) {
		r.report.Problems = append(r.report.Problems, text)
	}
}

// errNotAsked says that the API server gave no opinion.
var errNotAsked = errors.New("asking for a review")

// ErrRefused says that the API server does not accept a token.
var ErrRefused = errors.New("the API server refuses the token")

// Review asks the API server whether a token is accepted and is the one that
// the file should hold.
func Review(ctx context.Context, client kubernetes.Interface, f File, text string) error {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: text}}
	if f.Audience != "" {
		review.Spec.Audiences = []string{f.Audience}
	}
	review, err := client.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("%w: %w", errNotAsked, err)
	}
	if !review.Status.Authenticated {
		return fmt.Errorf("%w: %s", ErrRefused, review.Status.Error)
	}
	extra := func(key string) string {
		values := review.Status.User.Extra["authentication.kubernetes.io/"+key]
		if len(values) != 1 {
			return ""
		}
		return values[0]
	}
	for what, pair := range map[string][2]string{
		"user":     {review.Status.User.Username, f.User},
		"pod name": {extra("pod-name"), f.PodName},
		"pod UID":  {extra("pod-uid"), f.PodUID},
	} {
		if pair[0] != pair[1] {
			return fmt.Errorf("the token's %s is %q, want %q", what, pair[0], pair[1])
		}
	}
	return nil
}
