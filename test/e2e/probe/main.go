// Command probe looks at what a Pod of a DaemonSet may do on its node: who it is
// to the API server, and which system calls are answered how. It serves what it
// found on its Pod's IP, as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Report is what /report answers.
type Report struct {
	Host     string                    `json:"host"` // of the API server
	User     authenticationv1.UserInfo `json:"user"`
	Status   map[string]string         `json:"status"`   // from /proc/self/status
	Findings map[string]string         `json:"findings"` // what was tried, and how it went
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	var ready atomic.Pointer[Report]
	server := &http.Server{Addr: net.JoinHostPort(os.Getenv("POD_IP"), "8080")}
	http.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if ready.Load() == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/report", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(ready.Load())
	})
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	report, err := look(ctx)
	if err != nil {
		return err
	}
	ready.Store(report)
	fmt.Println("I am", report.User.Username)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		return server.Close()
	}
}

func look(ctx context.Context) (*Report, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	review, err := client.AuthenticationV1().SelfSubjectReviews().
		Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("asking who I am: %w", err)
	}
	r := &Report{Host: config.Host, User: review.Status.UserInfo, Findings: map[string]string{}}
	if r.Status, err = ownStatus(); err != nil {
		return nil, err
	}
	for what, try := range attempts {
		result := "ok"
		if note, err := try(); err != nil {
			result = err.Error()
		} else if note != "" {
			result = note
		}
		r.Findings[what] = result
	}
	return r, nil
}
