package workers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
)

// ErrNoAgent means that a worker has no agent, so nothing can be onboarded.
var ErrNoAgent = errors.New("the worker has no agent")

// deadlineSlack lets the agent say what it had done by the deadline.
const deadlineSlack = 500 * time.Millisecond

// maxMessage bounds a message from an agent.
const maxMessage = 16 << 20

// agentClient is the connection to a worker's agent; gRPC keeps it up.
type agentClient struct {
	conn *grpc.ClientConn
	rpc  agentpb.AgentClient
}

// dialAgent connects to an agent, over TLS if it is not on this machine's own
// socket and the fleet has certificates.
func dialAgent(target string, fleet *tls.Config) (*agentClient, error) {
	trust := insecure.NewCredentials()
	if fleet != nil && !strings.HasPrefix(target, "unix:") {
		trust = credentials.NewTLS(fleet)
	}
	connect := backoff.DefaultConfig
	connect.BaseDelay, connect.MaxDelay = 100*time.Millisecond, 3*time.Second
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(trust),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithFilter(agentpb.Traced))),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: connect, MinConnectTimeout: 3 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 15 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	)
	if err != nil {
		return nil, err
	}
	return &agentClient{conn: conn, rpc: agentpb.NewAgentClient(conn)}, nil
}

func (a *agentClient) close() { a.conn.Close() }

// describe asks the agent what worker this is.
func (a *agentClient) describe(ctx context.Context, timeout time.Duration) (info Info, store string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d, err := a.rpc.Describe(ctx, &agentpb.DescribeRequest{})
	if err != nil {
		return Info{}, "", fmt.Errorf("agent: describe: %w", err)
	}
	info = Info{
		Model:     d.GetModel(),
		Engine:    d.GetEngine(),
		BlockSize: int(d.GetBlockSize()),
		Tokenizer: d.GetTokenizer(),
		Peer:      d.GetPeer(),
	}
	if err := info.Role.UnmarshalText([]byte(d.GetRole())); err != nil {
		return Info{}, "", fmt.Errorf("agent: describe: %w", err)
	}
	return info, d.GetSharedStore(), nil
}

// PeerSource is a run of a plan's blocks that another worker has in cpu.
type PeerSource struct {
	Address      string // Info.Peer of that worker
	First, Count int
}

// Onboard asks the agent to bring the leading blocks of a prompt up to the
// engine, some of them from peers, and returns when that is done, the deadline
// has passed (zero: none) or ctx ends, which cancels what has not been moved yet.
func (w *Worker) Onboard(ctx context.Context, requestID string, root kv.Hash, hashes []kv.Hash, peers []PeerSource, deadline time.Time) (OnboardResult, error) {
	a := w.agent.Load()
	if a == nil {
		return OnboardResult{}, ErrNoAgent
	}
	req := &agentpb.OnboardRequest{
		RequestId: requestID,
		Root:      root[:],
		Hashes:    agentpb.PackHashes(make([]byte, 0, len(root)*len(hashes)), hashes),
	}
	for _, p := range peers {
		req.Peers = append(req.Peers, &agentpb.PeerSource{Address: p.Address, First: uint32(p.First), Count: uint32(p.Count)})
	}
	if !deadline.IsZero() {
		left := deadline.Sub(w.c.Now())
		if left <= 0 {
			return OnboardResult{Missed: len(hashes)}, context.DeadlineExceeded
		}
		req.DeadlineMs = uint32(min(left.Milliseconds()+1, 1<<31))
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left+deadlineSlack)
		defer cancel()
	}
	resp, err := a.rpc.Onboard(ctx, req)
	if err != nil {
		return OnboardResult{Missed: len(hashes)}, fmt.Errorf("agent of %s: onboard: %w", w.id, err)
	}
	r := OnboardResult{
		Missed:  int(resp.GetMissed()),
		Bytes:   resp.GetBytes(),
		Elapsed: time.Duration(resp.GetElapsedUs()) * time.Microsecond,
	}
	for _, from := range resp.GetTiers() {
		if t, ok := from.GetTier().ToTier(); ok {
			r.Blocks[t] = int(from.GetBlocks())
			r.LinkElapsed[t] = time.Duration(from.GetElapsedUs()) * time.Microsecond
		}
	}
	return r, nil
}
