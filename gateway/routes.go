package gateway

import (
	"errors"
	"net/http"
	"net/http/pprof"
	"runtime/debug"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func init() {
	// gin's mode is global; its debug mode prints every route.
	gin.SetMode(gin.ReleaseMode)
}

// Handler is the gateway's surface for clients. Unless Config.Admin is set it
// also has the metrics and the read-only admin API.
func (g *Gateway) Handler() http.Handler {
	e := g.engine()
	client := e.Group("", g.known(false))
	client.POST(endpointChat.path(), func(c *gin.Context) { g.serve(c.Writer, c.Request, endpointChat) })
	client.POST(endpointCompletion.path(), func(c *gin.Context) { g.serve(c.Writer, c.Request, endpointCompletion) })
	client.GET("/v1/models", g.listModels)
	client.GET("/v1/models/*id", g.getModel)
	client.POST("/tokenize", g.handle(g.tokenizeEndpoint))
	client.POST("/detokenize", g.handle(g.detokenizeEndpoint))
	for path, what := range map[string]string{
		"/v1/embeddings": "Embeddings", "/v1/responses": "The Responses API", "/v1/messages": "The Messages API",
	} {
		client.POST(path, notImplemented(what))
	}
	e.GET("/openapi.json", notImplemented("The OpenAPI description"))
	e.GET("/console/*path", notImplemented("The console"))
	g.health(e)
	if !g.c.Admin {
		g.admin(e.Group("", g.known(true)))
	}
	return e
}

// AdminHandler is the surface for operators: metrics, decisions, profiles.
func (g *Gateway) AdminHandler() http.Handler {
	e := g.engine()
	g.health(e)
	g.admin(&e.RouterGroup)
	e.GET("/debug/pprof/*name", gin.WrapF(profile))
	return e
}

func (g *Gateway) engine() *gin.Engine {
	e := gin.New()
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash = false
	e.Use(g.recover)
	e.NoRoute(func(c *gin.Context) {
		g.metrics.strangers.WithLabelValues(string(CodeUnknownURL)).Inc()
		respond(c, fail(CodeUnknownURL, "", "unknown URL: %s %s", c.Request.Method, c.Request.URL.Path))
	})
	e.NoMethod(func(c *gin.Context) {
		g.metrics.strangers.WithLabelValues(string(CodeMethodNotAllowed)).Inc()
		respond(c, fail(CodeMethodNotAllowed, "", "%s is not allowed on %s; use %s", c.Request.Method, c.Request.URL.Path, c.Writer.Header().Get("Allow")))
	})
	return e
}

func (g *Gateway) health(e *gin.Engine) {
	alive := func(c *gin.Context) { writeJSON(c.Writer, http.StatusOK, []byte(`{"status":"ok"}`)) }
	e.GET("/health", alive)
	e.HEAD("/health", alive)
	e.GET("/ready", g.readiness)
	e.HEAD("/ready", g.readiness)
}

func (g *Gateway) admin(e *gin.RouterGroup) {
	e.GET("/metrics", gin.WrapH(promhttp.HandlerFor(g.c.Registry, promhttp.HandlerOpts{Registry: g.c.Registry})))
	e.GET("/kvasir/v1/workers", g.listWorkers)
	e.GET("/kvasir/v1/decisions", g.handle(g.listDecisions))
	e.GET("/kvasir/v1/decisions/:id", g.handle(g.getDecision))
	e.GET("/kvasir/v1/index", g.showIndex)
	e.GET("/kvasir/v1/tiers", g.listTiers)
	e.POST("/kvasir/v1/explain", g.handle(g.explain))
}

// handle answers a handler's error in OpenAI's form.
func (g *Gateway) handle(f func(*gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := f(c); err != nil {
			respond(c, err)
		}
	}
}

func respond(c *gin.Context, err error) {
	e := asError(err)
	if c.Writer.Header().Get(headerRequestID) == "" {
		id := c.Request.Header.Get(headerRequestID)
		if !saneID(id) {
			id = newID()
		}
		c.Header(headerRequestID, id)
	}
	e.write(c.Writer)
}

// recover answers a panic of a handler as an internal error.
func (g *Gateway) recover(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p)
		}
		g.c.Log.Error("a handler panicked", "path", c.FullPath(), "panic", p, "stack", string(debug.Stack()))
		if !c.Writer.Written() {
			respond(c, fail(CodeInternal, "", "internal error"))
		}
		c.Abort()
	}()
	c.Next()
}

func notImplemented(what string) gin.HandlerFunc {
	return func(c *gin.Context) {
		respond(c, fail(CodeNotImplemented, "", "%s is not served by this version of Kvasir; use /v1/chat/completions or /v1/completions", what))
	}
}

// readiness says whether load balancers should send requests here.
func (g *Gateway) readiness(c *gin.Context) {
	if !g.admission.ready() {
		respond(c, fail(CodeDraining, "", "this gateway is shutting down").after(defaultRetryAfter))
		return
	}
	for _, w := range g.c.Fleet.Workers() {
		if w.Ready() {
			writeJSON(c.Writer, http.StatusOK, []byte(`{"status":"ready"}`))
			return
		}
	}
	respond(c, fail(CodeNoWorker, "", "no worker is ready").after(defaultRetryAfter))
}

// profile serves net/http/pprof without its global registration.
func profile(w http.ResponseWriter, r *http.Request) {
	switch strings.TrimPrefix(r.URL.Path, "/debug/pprof/") {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
}
