"""Scripts whose figures the README quotes: ratios against something measured in the same run."""
