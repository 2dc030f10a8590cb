package agent

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
)

// messageBlocks bounds the blocks in one message (16 bytes each), far below
// gRPC's limits.
const messageBlocks = 32 << 10

// engineWait bounds how long a first snapshot waits for the engine's events:
// without them it would say that the engine holds nothing.
const engineWait = 3 * time.Second

// awaitEngine returns once the engine's events are being read, if they are to
// be, or after engineWait.
func (a *Agent) awaitEngine(ctx context.Context) {
	if !a.readsEngine {
		return
	}
	timeout := time.NewTimer(engineWait)
	defer timeout.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		if r := a.reader.Load(); r != nil && r.Stats().Connected {
			return
		}
		select {
		case <-poll.C:
		case <-timeout.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// WatchBlocks implements agentpb.AgentServer.
func (a *Agent) WatchBlocks(req *agentpb.WatchBlocksRequest, stream grpc.ServerStreamingServer[agentpb.WatchBlocksResponse]) error {
	adopted := a.adopted
	select {
	case <-adopted:
		adopted = nil
	default:
	}
	after := req.GetAfterSeq()
	if _, _, ok := a.hub.since(req.GetEpoch(), after); !ok {
		a.awaitEngine(stream.Context())
		events, seq := a.hub.snapshot()
		if err := a.sendSnapshot(stream, events, seq); err != nil {
			return err
		}
		after = seq
	}
	for {
		deltas, more, ok := a.hub.since(a.hub.epoch, after)
		if !ok {
			return status.Error(codes.Aborted, "the watcher fell behind the log: watch again for a snapshot")
		}
		for len(deltas) > 0 {
			n := a.fill(deltas)
			if err := stream.Send(a.deltaMessage(deltas[:n])); err != nil {
				return err
			}
			after = deltas[n-1].seq
			deltas = deltas[n:]
		}
		select {
		case <-more:
		case <-adopted:
			return status.Error(codes.Unavailable, "the worker has tiers now: describe it again")
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-a.ctx.Done():
			return status.Error(codes.Unavailable, "the agent is stopping")
		}
	}
}

// fill is how many deltas go into the next message: at least one.
func (a *Agent) fill(deltas []delta) int {
	blocks := deltas[0].blocks
	n := 1
	for n < len(deltas) && blocks+deltas[n].blocks <= messageBlocks {
		blocks += deltas[n].blocks
		n++
	}
	return n
}

func (a *Agent) deltaMessage(deltas []delta) *agentpb.WatchBlocksResponse {
	m := &agentpb.WatchBlocksResponse{
		Epoch:    a.hub.epoch,
		Part:     agentpb.WatchBlocksResponse_PART_DELTA,
		FirstSeq: deltas[0].seq,
		LastSeq:  deltas[len(deltas)-1].seq,
	}
	for _, d := range deltas {
		for _, e := range d.events {
			m.Events = append(m.Events, agentpb.FromEvent(e))
		}
	}
	return m
}

// sendSnapshot sends events in messages of bounded size; the last one, which may
// be empty, says that it is the last.
func (a *Agent) sendSnapshot(stream grpc.ServerStreamingServer[agentpb.WatchBlocksResponse], events []kv.Event, seq uint64) error {
	m := &agentpb.WatchBlocksResponse{Epoch: a.hub.epoch, Part: agentpb.WatchBlocksResponse_PART_SNAPSHOT}
	for _, e := range events {
		m.Blocks += uint64(len(e.Hashes))
	}
	blocks := 0
	flush := func() error {
		err := stream.Send(m)
		m = &agentpb.WatchBlocksResponse{Epoch: a.hub.epoch, Part: agentpb.WatchBlocksResponse_PART_SNAPSHOT}
		blocks = 0
		return err
	}
	for _, e := range events {
		if len(e.Hashes) == 0 {
			m.Events = append(m.Events, agentpb.FromEvent(e))
		}
		for len(e.Hashes) > 0 {
			n := min(len(e.Hashes), messageBlocks-blocks)
			part := e
			part.Hashes = e.Hashes[:n]
			m.Events = append(m.Events, agentpb.FromEvent(part))
			blocks += n
			e.Parent, e.Hashes = e.Hashes[n-1], e.Hashes[n:]
			if blocks == messageBlocks {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	m.Part, m.LastSeq = agentpb.WatchBlocksResponse_PART_SNAPSHOT_END, seq
	return flush()
}
