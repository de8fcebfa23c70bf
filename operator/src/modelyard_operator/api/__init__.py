"""The API group `modelyard.dev/v1alpha1` as frozen, typed models: the one source of truth for the CRDs."""
