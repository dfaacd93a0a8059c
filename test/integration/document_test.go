package integration

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
)

var update = flag.Bool("update", false, "rewrite the output in docs/tokens.md and docs/operating.md")

// These have the output of commands in them, block by block; the tests
// that make them compare, and -update writes.
const (
	tokensDocument    = "../../docs/tokens.md"
	operatingDocument = "../../docs/operating.md"
)

// document collects the output of commands by the name of their block.
type document struct {
	*world
	path   string
	names  map[string]string // what differs at each run -> what stands for it
	blocks map[string]string
}

func (w *world) newDocument() *document {
	return &document{world: w, path: tokensDocument, blocks: map[string]string{}, names: map[string]string{
		w.ns: "shop", w.node: "node-1", w.root(): "/var/lib/projectord", w.cluster.URL(): "https://10.0.0.1:6443",
	}}
}

// What else differs at each run.
var varying = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "…"},
	{regexp.MustCompile(`\.\.\d{4}(_\d\d){5}\.\d+`), "..…"},
	{regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`), "kube-api-access-…"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:]+Z \((in )?[0-9hms]+( ago)?\)`), "…"},
	{regexp.MustCompile(`\b\d+ bytes`), "… bytes"},
	{regexp.MustCompile(`\b(written|good for) \d[0-9hms]*\b`), "$1 …"},
	{regexp.MustCompile(`key [A-Za-z0-9_-]{20,}`), "key …"},
	{regexp.MustCompile(`"jwks_uri":"https://[^/]+/`), `"jwks_uri":"https://10.0.0.1:6443/`},
	{regexp.MustCompile(`"resourceVersion": "\d+"`), `"resourceVersion": "…"`},
}

// put makes a block of text.
func (d *document) put(block, text string) {
	// The longest first: one may be a part of another.
	for _, from := range slices.SortedFunc(maps.Keys(d.names), func(a, b string) int { return len(b) - len(a) }) {
		text = strings.ReplaceAll(text, from, d.names[from])
	}
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.by)
	}
	d.blocks[block] = fmt.Sprintf("<!-- begin %s -->\n```\n%s```\n<!-- end %s -->", block, text, block)
}

// run makes a block of a command and its output.
func (d *document) run(block string, args ...string) {
	d.Helper()
	d.put(block, "$ projectorctl "+strings.Join(args, " ")+"\n"+d.projectorctl(args...))
}

// curl is the answer to a request with a token, as curl prints it; it makes the
// request itself. grep leaves only the lines that it matches.
func (d *document) curl(token, path string, grep *regexp.Regexp) string {
	d.Helper()
	cfg := rest.AnonymousClientConfig(d.cluster.AdminConfig())
	cfg.BearerTokenFile, cfg.UserAgent = token, "curl/8.14.1"
	transport, err := rest.TransportFor(cfg)
	d.must(err)
	request, err := http.NewRequestWithContext(d.ctx, http.MethodGet, d.cluster.URL()+path, nil)
	d.must(err)
	answer, err := (&http.Client{Transport: transport}).Do(request)
	d.must(err)
	body, err := io.ReadAll(answer.Body)
	d.must(err)
	d.must(answer.Body.Close())
	command := `$ curl -s --cacert ca.crt -H "Authorization: Bearer $(cat token)" '` + d.cluster.URL() + path + "'"
	text := strings.TrimRight(string(body), "\n") + "\n"
	if grep == nil {
		return command + "\n" + text
	}
	command += fmt.Sprintf(" | grep -E '%s'\n", grep)
	for line := range strings.Lines(text) {
		if grep.MatchString(line) {
			command += line
		}
	}
	return command
}

var documentMu sync.Mutex // tests run side by side

// compare looks for each block in the document.
func (d *document) compare() {
	d.Helper()
	documentMu.Lock()
	defer documentMu.Unlock()
	content, err := os.ReadFile(d.path)
	d.must(err)
	updated := string(content)
	for name, want := range d.blocks {
		pattern := regexp.MustCompile(`(?s)<!-- begin ` + name + ` -->.*<!-- end ` + name + ` -->`)
		got := pattern.FindString(updated)
		if got == "" {
			d.Errorf("%s has no block %s", d.path, name)
		} else if got != want {
			updated = strings.Replace(updated, got, want, 1)
			if !*update {
				d.Errorf("block %s of %s is not what the commands print now (run this test with -update):\n%s\nwant\n%s", name, d.path, got, want)
			}
		}
	}
	if *update {
		d.must(os.WriteFile(d.path, []byte(updated), 0644))
	}
}
