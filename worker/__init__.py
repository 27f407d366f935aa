"""The part of the lab that runs experiments: one supervised child interpreter per attempt.

Everything but :mod:`worker.child` lives without torch.
"""

from partlab.installation import refuse_shadowed_packages

refuse_shadowed_packages()
