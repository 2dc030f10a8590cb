package main

import "testing"

func TestASmallHeapGrowsToTheLeastAndALargeOneByAShare(t *testing.T) {
	for live, want := range map[int]int{0: 1000, 8 << 20: 1000, 44 << 20: 100, 80 << 20: 35, 1 << 30: 35} {
		if got := growth(live); got != want {
			t.Errorf("%d live bytes grow by %d %%, want %d", live, got, want)
		}
	}
}
