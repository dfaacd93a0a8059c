// Command consumer is a program like any other: it makes requests to the API
// server with stock client-go, which reads a token file that is given to it or,
// without arguments for that, the one of every Pod, until it is asked to end. Then
// it prints what came of them, as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Report is what is printed.
type Report struct {
	Requests int `json:"requests"`
	// Failed are those whose token the API server refused, or took for somebody
	// else's; Unready are those that an API server answered which has just begun
	// and knows no role yet; Unreachable are those that nobody answered.
	Failed      int      `json:"failed"`
	Unready     int      `json:"unready"`
	Unreachable int      `json:"unreachable"`
	Tokens      int      `json:"tokens"` // how many different ones were used
	Problems    []string `json:"problems"`
}

// interval is the time between requests.
const interval = 200 * time.Millisecond

func main() {
	enough := flag.Int("requests", 0, "end after so many requests; 0 is when asked to")
	linger := flag.Duration("linger", 0, "how long to go on when asked to end")
	flag.Parse()
	config, err := clientConfig(flag.Args())
	if err == nil {
		err = run(untilAsked(*linger), config, flag.Arg(0), *enough)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
}

// clientConfig is how a client is made of the arguments.
func clientConfig(args []string) (*rest.Config, error) {
	switch len(args) {
	case 1:
		return rest.InClusterConfig()
	case 3:
		return &rest.Config{
			Host: args[1], BearerTokenFile: filepath.Join(args[2], "token"),
			TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(args[2], "ca.crt")},
		}, nil
	}
	return nil, errors.New("usage: consumer [flags] USER [URL VOLUME]")
}

// untilAsked is a context that ends with SIGTERM, or some time later.
func untilAsked(linger time.Duration) context.Context {
	asked, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	ctx, end := context.WithCancel(context.Background())
	context.AfterFunc(asked, func() { time.AfterFunc(linger, end) })
	return ctx
}

func run(ctx context.Context, config *rest.Config, user string, enough int) error {
	config.Timeout = 10 * time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	report, seen := Report{}, map[string]bool{}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil && (enough == 0 || report.Requests < enough) {
		report.Requests++
		id, err := whoAmI(client, user)
		switch {
		case err == nil:
			seen[id] = true
		case apierrors.IsUnauthorized(err), errors.Is(err, errSomebodyElse):
			report.Failed++
		case apierrors.ReasonForError(err) != metav1.StatusReasonUnknown:
			report.Unready++
		default:
			report.Unreachable++
		}
		if err != nil && !slices.Contains(report.Problems, err.Error()) && len(report.Problems) < 20 {
			report.Problems = append(report.Problems, err.Error())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	report.Tokens = len(seen)
	return json.NewEncoder(os.Stdout).Encode(report)
}

var errSomebodyElse = errors.New("the API server takes the token for somebody else's")

// whoAmI makes a request that everybody may make, and returns the token's id.
func whoAmI(client kubernetes.Interface, user string) (string, error) {
	// Not the context of the end: what is under way is not to fail by it.
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(context.Background(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	info := review.Status.UserInfo
	ids := info.Extra["authentication.kubernetes.io/credential-id"]
	if info.Username != user || len(ids) != 1 {
		return "", fmt.Errorf("%w: %s", errSomebodyElse, info.Username)
	}
	return ids[0], nil
}
