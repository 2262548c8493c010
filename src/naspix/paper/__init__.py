"""The paper's tables and figures, computed from nothing and set beside its numbers; its run times.

`running` computes and draws any of them, `experiment` says what each consists of:

    regions        figures 1, 2, 3         photos cut (`segmentations`)
    appendix       figures 7, 8, 9         the same
    semantics      table 1, figure 4       clusters that the pictures of a class share
    lerf           table 2, figure 6       the least relevant hidden first (`evaluations`)
    maps           figure 5                pooled maps and the greedy order
    localisation   tables 3, 4             boxes around objects (`evaluations`)
    run_times      table 5                 images a second (`timing`, `bench`)

`data` finds pictures and networks to run on, `published` has the paper's numbers and claims, and
the rule by which these hold or not.
"""
