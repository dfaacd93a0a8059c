package proxy

import (
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// tokenRequest is the kind of requests for a token.
const tokenRequest = "create serviceaccounts/token"

// IsTokenRequest says whether a request asks for a token.
func IsTokenRequest(r *http.Request) bool { return kind(r) == tokenRequest }

// infos reads requests as the API server does.
var infos = request.RequestInfoFactory{
	APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api"),
}

// kind is a request's verb and resource.
func kind(r *http.Request) string {
	info, err := infos.NewRequestInfo(r)
	switch {
	case err != nil:
		return "unreadable " + r.URL.Path
	case !info.IsResourceRequest:
		return strings.ToLower(r.Method) + " " + r.URL.Path
	case info.Subresource != "":
		return info.Verb + " " + info.Resource + "/" + info.Subresource
	}
	return info.Verb + " " + info.Resource
}
