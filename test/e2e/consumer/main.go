// Command consumer is a host process like any other: it makes requests to the
// API server with stock client-go, which reads a token file that is given to it,
// until it is asked to end. Then it prints what came of them, as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
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
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: consumer URL VOLUME USER")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := run(ctx, os.Args[1], os.Args[2], os.Args[3])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, volume, user string) error {
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: url, BearerTokenFile: filepath.Join(volume, "token"),
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(volume, "ca.crt")},
		Timeout:         10 * time.Second,
	})
	if err != nil {
		return err
	}
	report, seen := Report{}, map[string]bool{}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil {
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
