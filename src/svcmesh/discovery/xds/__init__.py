"""xDS: what a control plane of Envoy's kind says, asked for as a gRPC client does."""
