//! A private containerd with real pods, for the demo and the whole-agent tests.
