package kube

import "testing"

func TestParseVersion(t *testing.T) {
	for text, want := range map[string][2]int{
		`{"major":"1","minor":"37","gitVersion":"v1.37.2"}`:                     {1, 37},
		`{"major":"1","minor":"35+","gitVersion":"v1.35.1-eks-1"}`:              {1, 35},
		`{"major":"1","minor":"37","emulationMajor":"1","emulationMinor":"34"}`: {1, 34},
		`{"major":"1","minor":"x"}`:                                             {0, 0},
		`{"gitVersion":"v1.37.2"}`:                                              {0, 0},
		`<html>`:                                                                {0, 0},
	} {
		if major, minor := parseVersion([]byte(text)); major != want[0] || minor != want[1] {
			t.Errorf("%s: %d.%d, want %v", text, major, minor, want)
		}
	}
}
