"""What must be so before any test module is imported."""

import os

from hypothesis import settings

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # LiteLLM would fetch its price list while it is imported

settings.register_profile("echo", derandomize=True, deadline=None)  # same examples every time, however busy the machine
settings.load_profile("echo")
