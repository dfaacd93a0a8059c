package inspect

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/token-projector/token-projector/rotation"
)

// Print writes t for a person, one fact a line.
func (t *Token) Print(w io.Writer, now time.Time) error { return t.print(w, "", now) }

func (t *Token) print(w io.Writer, indent string, now time.Time) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(tw, "%s%s:\t%s\n", indent, name, Printable(fmt.Sprintf(format, args...)))
	}
	line("kind", "%s", kindText[t.Kind])
	line("service account", "%s/%s", t.Namespace, object(t.ServiceAccount))
	for _, o := range []struct {
		name string
		ref  *rotation.ObjectRef
	}{{"pod", t.Pod}, {"node", t.Node}, {"secret", t.Secret}} {
		if o.ref != nil {
			line(o.name, "%s", object(*o.ref))
		}
	}
	line("issuer", "%s", t.Issuer)
	if len(t.Audiences) > 0 {
		line("audiences", "%s", strings.Join(t.Audiences, ", "))
	}
	if t.ID != "" {
		line("id", "%s", t.ID)
	}
	if !t.IssuedAt.IsZero() {
		line("issued", "%s", moment(t.IssuedAt, now))
	}
	if t.LifetimeSeconds > 0 {
		line("lifetime", "%s", time.Duration(t.LifetimeSeconds)*time.Second)
	}
	if t.Deadline.IsZero() {
		line("deadline", "none: it never expires")
	} else {
		line("deadline", "%s, by the claim %s", moment(t.Deadline, now), t.DeadlineClaim)
	}
	if t.Kind == KindExtended {
		line("exp", "%s, extended; do not go by it", moment(t.ExpiresAt, now))
	}
	if !t.Due.IsZero() {
		line("due", "%s; at the latest %s", moment(t.Due, now), moment(t.DueBy, now))
	}
	if t.Review != nil {
		line("review", "%s", t.Review)
	}
	if t.Signature != nil {
		verdict := t.Signature.String()
		if t.Signature.Valid && t.Expired {
			verdict += "; but the token has expired"
		}
		line("signature", "%s", verdict)
	}
	return tw.Flush()
}

var kindText = map[Kind]string{
	KindBound:    "bound: ends with the object it is bound to",
	KindExtended: "bound and extended: to be replaced at its deadline, long before its exp",
	KindUnbound:  "unbound: nothing but its expiry ends it",
	KindLegacy:   "legacy: from a Secret, never expires",
}

// Printable quotes what could pass for more than one line, or move a terminal's
// cursor: claims and names of files are somebody else's words.
func Printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func object(o rotation.ObjectRef) string {
	if o.UID == "" {
		return o.Name
	}
	return fmt.Sprintf("%s (UID %s)", o.Name, o.UID)
}

// moment is a time with how far it is from now.
func moment(t, now time.Time) string {
	d := t.Sub(now).Round(time.Second)
	if d < 0 {
		return fmt.Sprintf("%s (%s ago)", t.UTC().Format(time.RFC3339), -d)
	}
	return fmt.Sprintf("%s (in %s)", t.UTC().Format(time.RFC3339), d)
}

func (s *Signature) String() string {
	if !s.Valid {
		return "NOT VALID: " + s.Reason
	}
	return fmt.Sprintf("valid, %s, key %s", s.Algorithm, s.KeyID)
}

// Print writes v for a person.
func (v *Volume) Print(w io.Writer, now time.Time) error {
	if _, err := fmt.Fprintf(w, "volume %s\n", v.Path); err != nil {
		return err
	}
	if v.Generation != "" {
		_, _ = fmt.Fprintf(w, "  generation %s, written %s\n", v.Generation, moment(v.WrittenAt, now))
	}
	for _, name := range v.Old {
		_, _ = fmt.Fprintf(w, "  generation %s, an old one\n", name)
	}
	for _, l := range v.Links {
		_, _ = fmt.Fprintf(w, "  link        %s -> %s\n", Printable(l.Name), Printable(l.Target))
	}
	for _, f := range v.Files {
		_, _ = fmt.Fprintf(w, "  %s  %s  %d bytes\n", f.Mode, Printable(f.Path), f.Size)
		if f.Token != nil {
			if err := f.Token.print(w, "      ", now); err != nil {
				return err
			}
		}
	}
	if len(v.Problems) == 0 {
		_, err := fmt.Fprintln(w, "  nothing is wrong with it")
		return err
	}
	for _, p := range v.Problems {
		_, _ = fmt.Fprintf(w, "  WRONG: %s\n", Printable(p))
	}
	return nil
}
