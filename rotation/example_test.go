package rotation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

// A program that asks the manager each time that it needs a token, and keeps none.
func Example() {
	ctx := context.Background()
	minter := &rotationtest.Minter{} // where there is an API server: kube.Client
	tokens, err := rotation.NewManager(minter, rotation.DefaultPolicy())
	if err != nil {
		log.Fatal(err)
	}
	request := rotation.Request{
		Namespace:      "shop",
		ServiceAccount: "cart",
		Pod:            rotation.ObjectRef{Name: "cart-0", UID: "0a1b2c3d"},
		Audience:       "vault",
		Lifetime:       time.Hour,
	}

	first, due, err := tokens.Get(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("token", first.Claims.ID, "is valid for", first.Lifetime)
	fmt.Println("it is due before that:", due.Before(first.Deadline()))

	// Until it is due, everybody gets this one.
	second, _, err := tokens.Get(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("token", second.Claims.ID, "after", minter.Calls(), "request")
	// Output:
	// token 1 is valid for 1h0m0s
	// it is due before that: true
	// token 1 after 1 request
}

// While the API server can't be had, the old token goes on for as long as it is valid.
func ExampleManager_Get_outage() {
	ctx := context.Background()
	minter := &rotationtest.Minter{}
	tokens, err := rotation.NewManager(minter, rotation.DefaultPolicy())
	if err != nil {
		log.Fatal(err)
	}
	request := rotation.Request{
		Namespace:      "shop",
		ServiceAccount: "cart",
		Pod:            rotation.ObjectRef{Name: "cart-0", UID: "0a1b2c3d"},
		Lifetime:       time.Hour,
	}
	if _, _, err := tokens.Get(ctx, request); err != nil {
		log.Fatal(err)
	}

	minter.Behave(rotationtest.Behaviour{Err: errors.New("the API server is away")})
	tokens.RotateAll(0) // so that it is due now, and not in most of an hour

	// The error alone doesn't say that there is no token: look at both.
	grant, _, err := tokens.Get(ctx, request)
	switch {
	case grant.Token.IsZero():
		log.Fatal(err)
	case err != nil:
		fmt.Println("will ask again:", err)
	}
	fmt.Println("goes on with token", grant.Claims.ID)

	minter.Behave(rotationtest.Behaviour{}) // the third request, the second was refused
	grant, _, err = tokens.Get(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("goes on with token", grant.Claims.ID)
	// Output:
	// will ask again: the API server is away
	// goes on with token 1
	// goes on with token 3
}

// A program that was restarted goes on with the token in its file.
func ExampleManager_Adopt() {
	// What os.ReadFile and os.Stat say of the file. Its time is when the token was
	// received, so write it once for each token.
	written := time.Now().Truncate(time.Second)
	text := rotationtest.JWT(fmt.Sprintf(`{"jti": "old", "iat": %d, "exp": %d, "kubernetes.io": {"pod": {"uid": "0a1b2c3d"}}}`,
		written.Unix(), written.Add(time.Hour).Unix()))

	minter := &rotationtest.Minter{}
	tokens, err := rotation.NewManager(minter, rotation.DefaultPolicy())
	if err != nil {
		log.Fatal(err)
	}
	request := rotation.Request{
		Namespace:      "shop",
		ServiceAccount: "cart",
		Pod:            rotation.ObjectRef{Name: "cart-0", UID: "0a1b2c3d"},
		Lifetime:       time.Hour,
	}
	left, err := rotation.ReadGrant(rotation.NewToken(text), written)
	if err == nil {
		err = tokens.Adopt(request, left)
	}
	if err != nil { // which is no disaster: Get asks for a new one
		log.Print("can't go on with the old token: ", err)
	}

	grant, _, err := tokens.Get(context.Background(), request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("token", grant.Claims.ID, "after", minter.Calls(), "requests")
	// Output: token old after 0 requests
}

// Tokens of one age are due at different moments, the same in every process.
func ExamplePolicy_Due() {
	policy := rotation.DefaultPolicy()
	grant := rotation.Grant{
		Token:    rotation.NewToken("a token"),
		Claims:   rotation.Claims{ID: "1"},
		Received: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Lifetime: time.Hour,
	}
	for _, uid := range []string{"pod-a", "pod-b"} {
		request := rotation.Request{Namespace: "shop", ServiceAccount: "cart", Pod: rotation.ObjectRef{UID: uid}, Lifetime: time.Hour}
		fmt.Println(uid, policy.Due(request, grant).Format("15:04:05"))
	}

	policy.Spread = rotation.SpreadNone // all at the latest moment
	fmt.Println("at the latest", policy.Due(rotation.Request{}, grant).Format("15:04:05"))
	// Output:
	// pod-a 12:24:00
	// pod-b 12:24:26
	// at the latest 12:48:00
}

// The latest age of a token is a part of its lifetime, or a day.
func ExamplePolicy_Period() {
	policy := rotation.DefaultPolicy()
	fmt.Println(policy.Period(time.Hour))
	fmt.Println(policy.Period(30 * 24 * time.Hour))

	policy.MaxAge = 30 * time.Minute
	if err := policy.Validate(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(policy.Period(time.Hour))
	// Output:
	// 48m0s
	// 24h0m0s
	// 30m0s
}

// However a token is printed, it doesn't show. Who needs the text says so.
func ExampleToken() {
	token := rotation.NewToken("secret")
	fmt.Println(token)
	fmt.Printf("%q %x %#v\n", token, token, token)
	text, err := json.Marshal(map[string]any{"token": token})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))

	fmt.Println(len(token.Reveal()), "bytes")
	// Output:
	// [redacted token]
	// [redacted token] [redacted token] [redacted token]
	// {"token":"[redacted token]"}
	// 6 bytes
}

// An "extended" token has an exp a year ahead; its lifetime is the real one.
func ExampleParseClaims() {
	// The text that is in a file of one's own. Nothing here verifies it.
	text := rotationtest.JWT(`{
		"sub": "system:serviceaccount:shop:cart", "aud": ["https://kubernetes.default.svc"],
		"iat": 1795348800, "exp": 1826884800,
		"kubernetes.io": {
			"namespace": "shop", "serviceaccount": {"name": "cart"}, "pod": {"name": "cart-0", "uid": "0a1b2c3d"},
			"warnafter": 1795352407
		}
	}`)
	claims, err := rotation.ParseClaims(text)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(claims.Subject, "in", claims.Pod.Name)
	fmt.Println(claims.ExpiresAt.Sub(claims.IssuedAt), "by exp alone")
	fmt.Println(claims.Lifetime(), "in truth")
	fmt.Println("for vault:", claims.HasAudience("vault"))
	// Output:
	// system:serviceaccount:shop:cart in cart-0
	// 8760h0m0s by exp alone
	// 1h0m7s in truth
	// for vault: false
}
