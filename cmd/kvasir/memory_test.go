package main

import "testing"

func TestASmallHeapGrowsToTheLeastAndALargeOneByAShare(t *testing.T) {
	for live, want := range map[int]int{0: 1000, 4 << 20: 1000, 40 << 20: 100, 75 << 20: 30, 1 << 30: 30} {
		if got := growth(live); got != want {
			t.Errorf("%d live bytes grow by %d %%, want %d", live, got, want)
		}
	}
}
