package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/token-projector/token-projector/projector"
)

// How many events are posted about one Pod: the projector tells each change
// once, and whoever lets a volume break and heal in a loop must neither fill
// etcd nor silence others.
const (
	eventsPerSecond = 1. / 60
	eventBurst      = 10
	// eventQueue is how many wait for the API server; more are lost.
	eventQueue = 200
	// eventAttempts is how often one is posted that is not refused for good.
	eventAttempts = 5
	// maxEventMessage is what an Event may hold (events.k8s.io/v1).
	maxEventMessage = 1024
	eventComponent  = "projectord"
)

// events posts Events, one after another, and drops what is too much.
type events struct {
	client *Client
	queue  chan *corev1.Event

	mu       sync.Mutex
	limiters map[types.UID]flowcontrol.RateLimiter // by Pod
}

func newEvents(c *Client) *events {
	return &events{client: c, queue: make(chan *corev1.Event, eventQueue), limiters: map[types.UID]flowcontrol.RateLimiter{}}
}

// maxLimiters is more than a node has Pods; then all begin anew.
const maxLimiters = 1000

// accept says whether one more event about a Pod may be posted.
func (e *events) accept(pod types.UID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	limiter, ok := e.limiters[pod]
	if !ok {
		if len(e.limiters) >= maxLimiters {
			clear(e.limiters)
		}
		limiter = flowcontrol.NewTokenBucketRateLimiter(eventsPerSecond, eventBurst)
		e.limiters[pod] = limiter
	}
	return limiter.TryAccept()
}

// Event posts an Event about a Pod, in the background. It is lost if there are
// too many, if the API server can't be reached, and before Run. It does nothing
// for a Pod whose name is not known.
func (c *Client) Event(pod projector.PodRef, e projector.Event) {
	if pod.Name == "" || !c.events.accept(pod.UID) {
		return
	}
	kind := corev1.EventTypeNormal
	if e.Warning {
		kind = corev1.EventTypeWarning
	}
	message := e.Message
	if len(message) > maxEventMessage {
		message = strings.ToValidUTF8(message[:maxEventMessage-3], "") + "..." // no half letter
	}
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: eventName(pod.Name, now.Time)},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		},
		Type: kind, Reason: e.Reason, Message: message,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source:              corev1.EventSource{Component: eventComponent, Host: c.node},
		ReportingController: eventComponent, ReportingInstance: c.node,
	}
	select {
	case c.events.queue <- event:
	default:
	}
}

// eventName is like those of client-go's recorder: unique, and sorted by time.
func eventName(pod string, now time.Time) string {
	prefix := strings.TrimRight(fmt.Sprintf("%.200s", pod), "-.")
	return fmt.Sprintf("%s.%x%04x", prefix, now.UnixNano(), rand.N(1<<16))
}

// run posts what is queued until ctx ends.
func (e *events) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-e.queue:
			e.post(ctx, event)
		}
	}
}

// post gives up in the end: the same is in the log, an Event is a courtesy.
func (e *events) post(ctx context.Context, event *corev1.Event) {
	for attempt := range eventAttempts {
		posting, cancel := context.WithTimeout(ctx, callTimeout)
		err := e.client.core.Post().Namespace(event.Namespace).Resource("events").Body(event).Do(posting).Error()
		cancel()
		var status apierrors.APIStatus
		if err == nil || errors.As(err, &status) && status.Status().Code < 500 && !apierrors.IsTooManyRequests(err) {
			return
		}
		select {
		case <-time.After(firstConnectRetry << attempt):
		case <-ctx.Done():
			return
		}
	}
}
