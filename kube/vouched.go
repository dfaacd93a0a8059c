package kube

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// vouched are Pods that a consistent LIST had although the watch did not show
// them. Until the watch does, they are served: a watch may be wrong for long, and
// tokens would lapse. The zero value is empty.
type vouched struct {
	mu   sync.Mutex
	pods map[types.UID]voucher
}

type voucher struct {
	pod   *corev1.Pod
	until time.Time
}

// vouchedFor is how long such a Pod counts before it is asked for again.
const vouchedFor = time.Minute

func (v *vouched) add(pod *corev1.Pod) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.pods == nil {
		v.pods = map[types.UID]voucher{}
	}
	for uid, old := range v.pods {
		if time.Now().After(old.until) {
			delete(v.pods, uid)
		}
	}
	_, _ = slim(pod) // never fails for a Pod
	v.pods[pod.UID] = voucher{pod, time.Now().Add(vouchedFor)}
}

// drop is for a Pod that the watch has shown, or whose end it has.
func (v *vouched) drop(uid types.UID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.pods, uid)
}

func (v *vouched) get(uid types.UID) *corev1.Pod {
	v.mu.Lock()
	defer v.mu.Unlock()
	found, ok := v.pods[uid]
	if !ok || time.Now().After(found.until) {
		return nil
	}
	return found.pod
}
