package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/kvasir-ai/kvasir/gateway/tenants"
)

type tenantKey struct{}

// tenantOf is who sent r, nil where the gateway is open.
func tenantOf(r *http.Request) *tenants.Tenant {
	t, _ := r.Context().Value(tenantKey{}).(*tenants.Tenant)
	return t
}

// known lets only those in whose key is known, where tenants are; for the admin
// API only those that may use it.
func (g *Gateway) known(admin bool) gin.HandlerFunc {
	return func(c *gin.Context) {
		if g.c.Tenants == nil {
			return
		}
		t, err := g.authenticate(c.Request, admin)
		if err != nil {
			g.metrics.strangers.WithLabelValues(string(asError(err).Code)).Inc()
			if asError(err).Code == CodeInvalidKey {
				c.Header("WWW-Authenticate", `Bearer realm="kvasir"`)
			}
			respond(c, err)
			c.Abort()
			return
		}
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), tenantKey{}, t))
	}
}

func (g *Gateway) authenticate(r *http.Request, admin bool) (*tenants.Tenant, error) {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if key = strings.TrimSpace(key); !strings.EqualFold(scheme, "Bearer") || key == "" {
		return nil, fail(CodeInvalidKey, "", "this gateway wants an API key: Authorization: Bearer KEY")
	}
	t := g.c.Tenants.Authenticate(key)
	switch {
	case t == nil:
		return nil, fail(CodeInvalidKey, "", "this API key is not known here")
	case admin && !t.Admin():
		return nil, fail(CodeForbidden, "", "tenant %s may not use the admin API", t.Name())
	}
	return t, nil
}

// enter admits the request on its tenant's account.
func (x *exchange) enter() error {
	if x.tenant == nil {
		return nil
	}
	x.entry.update(func(r *Record) { r.Tenant = x.tenant.Name() })
	err := x.tenant.Enter(x.g.c.Now())
	if over := (*tenants.OverLimit)(nil); errors.As(err, &over) {
		return fail(CodeOverLimit, "", "%s", over.What).after(over.RetryAfter)
	}
	return err
}

func (x *exchange) leave() {
	if x.tenant != nil {
		x.tenant.Leave()
	}
}

// claim makes the request its tenant's own: it uses KV that is nobody else's.
func (x *exchange) claim() error {
	if x.tenant == nil {
		return nil
	}
	if x.q.fields.has(fieldKVTransferParams) {
		return fail(CodeInvalidValue, "kv_transfer_params", `"kv_transfer_params" is not for clients: it would have an engine read another's memory`)
	}
	x.q.salted = true
	x.q.salt = x.tenant.Salt(x.q.salt)
	return nil
}

// charge books what the request used on its tenant's account.
func (x *exchange) charge(r *Record, prompt, completion int) {
	if x.tenant == nil {
		return
	}
	x.tenant.Charge(x.g.c.Now(), prompt+completion)
	x.g.metrics.tenantRequests.WithLabelValues(r.Tenant, r.Outcome).Inc()
	x.g.metrics.tenantTokens.WithLabelValues(r.Tenant, "prompt").Add(float64(prompt))
	x.g.metrics.tenantTokens.WithLabelValues(r.Tenant, "completion").Add(float64(completion))
}
