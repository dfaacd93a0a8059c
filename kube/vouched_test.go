package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTheWatchEndsAVoucher: what it shows of a Pod, and of its end, counts more than an
// earlier look.
func TestTheWatchEndsAVoucher(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
	c := &Client{}
	told := 0
	see := func(p *corev1.Pod) {
		if c.vouched.get(p.UID) != nil {
			t.Error("it is vouched for while the projector is told")
		}
		told++
	}
	c.handlers = Handlers{Pod: see, PodDeleted: see}
	for name, event := range map[string]func(){"shown": func() { c.podEvent(pod) }, "deleted": func() { c.podDeleted(pod) }} {
		c.vouched.add(pod)
		if c.vouched.get("u") == nil {
			t.Fatal("it is not vouched for")
		}
		event()
		if c.vouched.get("u") != nil {
			t.Errorf("%s: it is vouched for still", name)
		}
	}
	if told != 2 {
		t.Errorf("told %d times", told)
	}
}
