"""The methods of a runtime, by what they answer: mixins of `bertrt.runtime.Runtime`."""
