// Package archtest holds tests of the module's shape: which package may import
// which. It has no code of its own.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/token-projector/token-projector/"

// why is every import outside the standard library that a package may make,
// with the reason. A new import is a new line here, or a mistake. Imports point
// one way: cmd -> agent -> kube, internal -> projector -> rotation, atomicdir, payload.
var why = map[string]map[string]string{
	"cmd/projectorctl": {module + "internal/ctl": "is all of it"},
	"cmd/projectord": {
		"github.com/prometheus/client_golang/prometheus": "hands the registry to who registers and who serves",
		"github.com/spf13/pflag":                         "flags",
		"golang.org/x/sync/errgroup":                     "ends all parts when one ends",
		"k8s.io/apimachinery/pkg/api/resource":           "quantities in flags",
		"golang.org/x/sys/unix":                          "capget(2)",
		"k8s.io/api/core/v1":                             "Pods to choose from",
		"k8s.io/apimachinery/pkg/labels":                 "selectors in flags",
		"k8s.io/klog/v2":                                 "sends client-go's logs where ours go",
		module + "agent":                                 "wiring",
		module + "internal/csi":                          "wiring",
		module + "internal/ctl":                          "is projectorctl, where it has that name",
		module + "internal/health":                       "wiring",
		module + "internal/httpserver":                   "wiring",
		module + "internal/kubelet":                      "wiring",
		module + "internal/metrics":                      "wiring",
		module + "internal/names":                        "names",
		module + "projector/rootlock":                    "wiring",
		module + "internal/runtimeapi":                   "wiring",
		module + "kube":                                  "wiring",
		module + "projector":                             "wiring",
		module + "projector/atomicdir":                   "the default of a flag",
		module + "rotation":                              "wiring",
	},
	"agent": {
		"github.com/prometheus/client_golang/prometheus": "hands the registry to who registers",
		"github.com/go-logr/logr":                        "klog's loggers",
		"golang.org/x/sync/errgroup":                     "ends all parts when one ends",
		"k8s.io/klog/v2":                                 "where client-go logs",
		module + "internal/clock":                        "notices that a clock was set",
		module + "internal/metrics":                      "counts",
		module + "kube":                                  "wiring",
		module + "projector":                             "wiring",
		module + "projector/rootlock":                    "where volumes lie, and that nobody else is there",
		module + "rotation":                              "wiring",
	},
	"internal/archtest": {},
	"internal/csi": {
		"github.com/container-storage-interface/spec/lib/go/csi": "the interface",
		"github.com/fsnotify/fsnotify":                           "notices that the registration's socket is gone",
		"golang.org/x/sync/errgroup":                             "ends all parts when one ends",
		"google.golang.org/grpc":                                 "serves the kubelet",
		"google.golang.org/grpc/codes":                           "serves the kubelet",
		"google.golang.org/grpc/keepalive":                       "serves the kubelet",
		"google.golang.org/grpc/status":                          "serves the kubelet",
		"google.golang.org/protobuf/types/known/wrapperspb":      "part of the interface",
		"k8s.io/api/core/v1":                                     "what attributes describe",
		"k8s.io/apimachinery/pkg/types":                          "UIDs",
		"k8s.io/kubelet/pkg/apis/pluginregistration/v1":          "registers with the kubelet",
		module + "internal/grpcerr":                              "codes",
		module + "internal/mount":                                "what an earlier process has mounted",
		module + "projector":                                     "tells it what the kubelet wants",
		module + "projector/payload":                             "checks attributes",
	},
	"internal/clock": {"golang.org/x/sys/unix": "timerfd_create(2), clock_gettime(2)"},
	"internal/ctl": {
		"github.com/spf13/cobra":                            "commands",
		"golang.org/x/sys/unix":                             "the size of a terminal",
		"google.golang.org/grpc":                            "calls projectord",
		"google.golang.org/grpc/backoff":                    "calls projectord",
		"google.golang.org/grpc/codes":                      "calls projectord",
		"google.golang.org/grpc/credentials/insecure":       "a unix socket has no TLS",
		"google.golang.org/grpc/status":                     "calls projectord",
		"google.golang.org/protobuf/encoding/protojson":     "-o json",
		"google.golang.org/protobuf/proto":                  "-o json",
		module + "internal/inspect":                         "wiring",
		module + "internal/kubelet":                         "wiring",
		module + "internal/names":                           "names",
		module + "projector/rootlock":                       "wiring",
		module + "projector":                                "wiring",
		module + "proto/tokenprojector/v1alpha1":            "projectord's API",
		module + "kube":                                     "wiring",
		module + "rotation":                                 "hands a token over",
		module + "internal/doctor":                          "wiring",
		module + "internal/socket":                          "removes projectord's",
		"google.golang.org/protobuf/types/known/durationpb": "part of the API",
		module + "internal/wrap":                            "wiring",
		module + "tokenfile":                                "wiring",
	},
	"internal/grpcerr": {
		"google.golang.org/grpc/codes":       "what it tells",
		"k8s.io/apimachinery/pkg/api/errors": "an API server's answers",
		module + "projector":                 "what went wrong with a volume",
		module + "projector/payload":         "what went wrong with a source",
	},
	"internal/doctor": {
		"google.golang.org/grpc":                 "part of projectord's API",
		"google.golang.org/grpc/codes":           "tells who is refused from who finds nobody",
		"google.golang.org/grpc/status":          "what projectord says",
		module + "internal/inspect":              "reads volumes",
		module + "internal/kubelet":              "finds a kubelet",
		module + "internal/mount":                "reads what containers have mounted",
		module + "internal/names":                "names",
		module + "kube":                          "asks the API server",
		module + "projector/atomicdir":           "knows a generation by its name",
		module + "proto/tokenprojector/v1alpha1": "asks projectord",
		module + "rotation":                      "hands a token over",
	},
	"internal/health": {module + "internal/logonce": "tells a change from a repetition"},
	"internal/inspect": {
		"github.com/go-jose/go-jose/v4": "verifies signatures",
		module + "projector/atomicdir":  "knows a generation by its name",
		module + "rotation":             "claims and lifetimes",
	},
	"internal/kubelet": {},
	"internal/logonce": {},
	"internal/httpserver": {
		"github.com/prometheus/client_golang/prometheus":          "what is served",
		"github.com/prometheus/client_golang/prometheus/promhttp": "serves it",
	},
	"internal/metrics": {
		"github.com/prometheus/client_golang/prometheus":            "metrics",
		"github.com/prometheus/client_golang/prometheus/collectors": "metrics of any process",
		module + "internal/names":                                   "names",
		module + "projector":                                        "measures it",
		module + "rotation":                                         "measures it",
	},
	"internal/mount":     {"golang.org/x/sys/unix": "mount(2), statx(2)"},
	"internal/names":     {},
	"projector/rootlock": {"golang.org/x/sys/unix": "flock(2)"},
	"internal/runtimeapi": {
		module + "internal/socket":                           "removes what an earlier process left",
		module + "internal/grpcerr":                          "codes",
		module + "projector":                                 "tells it what runtimes want",
		module + "projector/atomicdir":                       "the content of a volume",
		module + "projector/payload":                         "which volumes a Pod declares",
		module + "proto/tokenprojector/v1alpha1":             "the API",
		"golang.org/x/sync/errgroup":                         "ends all parts when one ends",
		"golang.org/x/sys/unix":                              "asks the kernel who has connected",
		"golang.org/x/time/rate":                             "limits callers",
		"google.golang.org/grpc":                             "serves runtimes",
		"google.golang.org/grpc/codes":                       "serves runtimes",
		"google.golang.org/grpc/credentials":                 "serves runtimes",
		"google.golang.org/grpc/health":                      "serves runtimes",
		"google.golang.org/grpc/health/grpc_health_v1":       "serves runtimes",
		"google.golang.org/grpc/keepalive":                   "serves runtimes",
		"google.golang.org/grpc/peer":                        "serves runtimes",
		"google.golang.org/grpc/reflection":                  "serves runtimes",
		"google.golang.org/grpc/status":                      "serves runtimes",
		"google.golang.org/protobuf/proto":                   "compares messages",
		"google.golang.org/protobuf/types/known/timestamppb": "part of the API",
		"k8s.io/api/core/v1":                                 "what a Pod declares",
		"k8s.io/apimachinery/pkg/types":                      "UIDs",
		module + "rotation":                                  "the pace of rotations",
	},
	"internal/socket": {},
	"internal/wrap": {
		"golang.org/x/sys/unix": "the names of signals, and who is in a terminal's foreground",
		module + "tokenfile":    "tells that a token was replaced",
	},
	"kube": {
		"github.com/fsnotify/fsnotify":               "follows the credential's files",
		"k8s.io/api/authentication/v1":               "TokenRequest, SelfSubjectReview",
		"k8s.io/api/certificates/v1":                 "ClusterTrustBundles",
		"k8s.io/api/core/v1":                         "Pods, ConfigMaps, Secrets, Events",
		"k8s.io/apimachinery/pkg/api/errors":         "what the API server says",
		"k8s.io/apimachinery/pkg/apis/meta/v1":       "list options",
		"k8s.io/apimachinery/pkg/fields":             "field selectors",
		"k8s.io/apimachinery/pkg/runtime":            "the scheme",
		"k8s.io/apimachinery/pkg/runtime/schema":     "the scheme",
		"k8s.io/apimachinery/pkg/runtime/serializer": "the scheme",
		"k8s.io/apimachinery/pkg/types":              "UIDs",
		"k8s.io/apimachinery/pkg/util/net":           "the defaults of a transport",
		"k8s.io/apimachinery/pkg/version":            "what /version answers",
		"k8s.io/apimachinery/pkg/watch":              "the watch's type",
		"k8s.io/client-go/rest":                      "requests",
		"k8s.io/client-go/tools/cache":               "the Pod watch",
		"k8s.io/client-go/tools/clientcmd":           "kubeconfigs",
		"k8s.io/client-go/transport":                 "impersonation of the own node",
		"k8s.io/client-go/util/flowcontrol":          "limits Events, and not token requests",
		module + "projector":                         "implements its Cluster",
		module + "projector/payload":                 "what of a Pod its volumes need",
		module + "rotation":                          "implements its Minter",
	},
	"projector": {
		"k8s.io/api/certificates/v1":    "ClusterTrustBundles",
		"k8s.io/api/core/v1":            "Pods",
		"k8s.io/apimachinery/pkg/types": "UIDs",
		"k8s.io/client-go/util/workqueue": "the queue of keys; the one part of client-go that makes no request " +
			"(docs/decisions/0001-the-house.md)",
		module + "internal/logonce":    "tells a change from a repetition",
		module + "internal/mount":      "tmpfs volumes",
		module + "projector/atomicdir": "writes volumes",
		module + "projector/payload":   "builds their files",
		module + "rotation":            "tokens",
	},
	"projector/atomicdir": {"golang.org/x/sys/unix": "openat2(2) and what is relative to a descriptor"},
	"proto/tokenprojector/v1alpha1": {
		"google.golang.org/grpc":                             "generated code",
		"google.golang.org/grpc/codes":                       "generated code",
		"google.golang.org/grpc/status":                      "generated code",
		"google.golang.org/protobuf/reflect/protoreflect":    "generated code",
		"google.golang.org/protobuf/runtime/protoimpl":       "generated code",
		"google.golang.org/protobuf/types/known/durationpb":  "generated code",
		"google.golang.org/protobuf/types/known/timestamppb": "generated code",
	},
	"projector/payload": {
		"k8s.io/api/certificates/v1":           "ClusterTrustBundles",
		"k8s.io/api/core/v1":                   "Pods and their sources",
		"k8s.io/apimachinery/pkg/api/errors":   "tells an absent object from other failures",
		"k8s.io/apimachinery/pkg/api/resource": "the divisor's default",
		"k8s.io/apimachinery/pkg/apis/meta/v1": "label selectors",
		"k8s.io/apimachinery/pkg/labels":       "label selectors",
		module + "projector/atomicdir":         "what it builds",
		module + "rotation":                    "the tokens that it builds from",
		"sigs.k8s.io/yaml":                     "the attributes of a CSI volume",
	},
	"rotation":              {},
	"rotation/rotationtest": {module + "rotation": "fakes its Minter"},
	"tokenfile": {
		"github.com/fsnotify/fsnotify": "notices that the file was replaced",
		module + "rotation":            "claims, and a token that can't be logged",
	},
	"tokenfile/oauth2source": {
		"golang.org/x/oauth2": "implements its TokenSource",
		module + "tokenfile":  "where its tokens are from",
	},
}

// never is what a package must not depend on, however indirectly.
var never = map[string]struct {
	prefix string
	except []string
}{
	"projector":             {prefix: "k8s.io/client-go", except: []string{"k8s.io/client-go/util/workqueue"}},
	"projector/payload":     {prefix: "k8s.io/client-go"},
	"projector/atomicdir":   {prefix: "k8s.io"},
	"rotation":              {prefix: "k8s.io"},
	"rotation/rotationtest": {prefix: "k8s.io"},
	"tokenfile":             {prefix: "k8s.io"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(cmd.Environ(), "GOOS=linux")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// inStd says whether an import is of the standard library: its first element
// has no dot.
func inStd(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		seen[name] = true
		reasons, listed := why[name]
		if !listed {
			t.Errorf("package %s is not in the table: add it, with a reason for each import", name)
			continue
		}
		for _, path := range p.Imports {
			if !inStd(path) && reasons[path] == "" {
				t.Errorf("package %s imports %s, for which the table has no reason", name, path)
			}
		}
		for path := range reasons {
			if !slices.Contains(p.Imports, path) {
				t.Errorf("package %s no longer imports %s: take it out of the table", name, path)
			}
		}
		ban, banned := never[name]
		for _, path := range p.Deps {
			if banned && strings.HasPrefix(path, ban.prefix) && !slices.Contains(ban.except, path) {
				t.Errorf("package %s depends on %s, but must not on anything of %s", name, path, ban.prefix)
			}
		}
	}
	for name := range why {
		if !seen[name] {
			t.Errorf("the table lists package %s, which does not exist", name)
		}
	}
}
