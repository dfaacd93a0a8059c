// Command workload is a program in a Pod like any other: it makes requests to the API
// server with stock client-go, from what a Pod has of it, until it is asked to end. Each
// time that its token file is another, or a request fails, it says on a line of JSON what
// has come of them.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Report is one line.
type Report struct {
	Requests int `json:"requests"`
	Failed   int `json:"failed"`
	// Tokens is how many different ones the API server saw, and Old how many of the
	// client that is never made anew: client-go reads the file every 50 seconds.
	Tokens   int      `json:"tokens"`
	Old      int      `json:"old"`
	Problems []string `json:"problems"`
}

// interval is the time between requests.
const interval = 100 * time.Millisecond

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: workload USER")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := run(ctx, os.Args[1])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

// tokenFile is where rest.InClusterConfig finds it.
const tokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"

func run(ctx context.Context, user string) error {
	old, err := inCluster()
	if err != nil {
		return err
	}
	report, all, olds, last := Report{}, map[string]bool{}, map[string]bool{}, []byte(nil)
	young := old
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		failed := report.Failed
		token, err := os.ReadFile(tokenFile)
		changed := !slices.Equal(token, last)
		if last = token; err == nil && changed {
			young, err = inCluster()
		}
		report.note(err)
		report.request(old, user, olds)
		if changed {
			report.request(young, user, all)
		}
		for id := range olds {
			all[id] = true
		}
		report.Tokens, report.Old = len(all), len(olds)
		if changed || report.Failed > failed {
			report.print()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	report.print()
	return nil
}

// inCluster makes a client as every program in a Pod does.
func inCluster() (kubernetes.Interface, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	config.Timeout = 10 * time.Second
	return kubernetes.NewForConfig(config)
}

// request asks the API server who asks, which everybody may.
func (r *Report) request(client kubernetes.Interface, user string, seen map[string]bool) {
	r.Requests++
	// Not the context of the end: what is under way is not to fail by it.
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(context.Background(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err == nil {
		info := review.Status.UserInfo
		ids := info.Extra["authentication.kubernetes.io/credential-id"]
		if info.Username == user && len(ids) == 1 {
			seen[ids[0]] = true
			return
		}
		err = fmt.Errorf("the API server takes the token for one of %q", info.Username)
	}
	r.note(err)
}

func (r *Report) note(err error) {
	if err == nil {
		return
	}
	r.Failed++
	if len(r.Problems) < 10 {
		r.Problems = append(r.Problems, err.Error())
	}
}

func (r *Report) print() {
	line, _ := json.Marshal(r)
	fmt.Println(string(line))
}
