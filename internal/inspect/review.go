package inspect

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Review is what the API server says of a token.
type Review struct {
	Authenticated bool                `json:"authenticated"`
	User          string              `json:"user,omitempty"`
	Groups        []string            `json:"groups,omitempty"`
	Audiences     []string            `json:"audiences,omitempty"`
	Extra         map[string][]string `json:"extra,omitempty"`
	Error         string              `json:"error,omitempty"` // why it is refused
}

func (r *Review) String() string {
	if !r.Authenticated {
		return "REFUSED: " + r.Error
	}
	var extra strings.Builder
	for _, k := range slices.Sorted(maps.Keys(r.Extra)) {
		name := k[strings.LastIndexByte(k, '/')+1:]
		fmt.Fprintf(&extra, " %s=%s", name, strings.Join(r.Extra[k], ","))
	}
	return fmt.Sprintf("accepted as %s%s", r.User, extra.String())
}
