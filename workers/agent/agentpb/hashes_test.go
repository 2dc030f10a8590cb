package agentpb

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

func TestEventsSurviveTheWire(t *testing.T) {
	for _, e := range []kv.Event{
		{Kind: kv.Stored, Tier: kv.Disk, Parent: kv.Hash{1}, Hashes: []kv.Hash{{2}, {3}}},
		{Kind: kv.Removed, Tier: kv.Redis, Hashes: []kv.Hash{{4}}},
		{Kind: kv.Cleared, Tier: kv.GPU, Hashes: []kv.Hash{}},
	} {
		wire, err := proto.Marshal(FromEvent(e))
		if err != nil {
			t.Fatal(err)
		}
		var b BlockEvent
		if err := proto.Unmarshal(wire, &b); err != nil {
			t.Fatal(err)
		}
		if got, err := b.ToEvent(); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%+v became %+v, %v", e, got, err)
		}
	}
}

func TestNonsenseFromTheWireIsRefused(t *testing.T) {
	f := func(name string, b *BlockEvent) {
		t.Helper()
		if e, err := b.ToEvent(); err == nil {
			t.Errorf("%s became %+v", name, e)
		}
	}
	f("nothing", nil)
	f("an unknown kind", &BlockEvent{Kind: 9, Tier: Tier_TIER_GPU})
	f("no tier", &BlockEvent{Kind: BlockEvent_KIND_CLEARED})
	f("an unknown tier", &BlockEvent{Kind: BlockEvent_KIND_CLEARED, Tier: 99})
	f("half a hash", &BlockEvent{Kind: BlockEvent_KIND_REMOVED, Tier: Tier_TIER_CPU, Hashes: make([]byte, 24)})
	f("half a parent", &BlockEvent{Kind: BlockEvent_KIND_STORED, Tier: Tier_TIER_CPU, Parent: make([]byte, 8)})
	f("too many hashes", &BlockEvent{Kind: BlockEvent_KIND_REMOVED, Tier: Tier_TIER_CPU, Hashes: make([]byte, 16*(MaxHashes+1))})
}

func FuzzBlockEvent(f *testing.F) {
	for _, e := range []kv.Event{{Kind: kv.Stored, Hashes: []kv.Hash{{1}}}, {Kind: kv.Cleared, Tier: kv.Peer}} {
		wire, _ := proto.Marshal(FromEvent(e))
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var b BlockEvent
		if proto.Unmarshal(wire, &b) != nil {
			return
		}
		e, err := b.ToEvent()
		if err != nil {
			return
		}
		again, err := FromEvent(e).ToEvent()
		if err != nil || again.Kind != e.Kind || again.Tier != e.Tier || !slices.Equal(again.Hashes, e.Hashes) {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}

func FuzzUnpackHashes(f *testing.F) {
	f.Add(make([]byte, 32))
	f.Add(make([]byte, 31))
	f.Fuzz(func(t *testing.T, b []byte) {
		hashes, err := UnpackHashes(nil, b)
		if (err == nil) != (len(b)%16 == 0) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		if err == nil && !bytes.Equal(PackHashes(nil, hashes), b) {
			t.Fatal("packing again gives other bytes")
		}
	})
}
