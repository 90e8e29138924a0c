"""The switches of what transformers prints."""

state = {"verbosity": 30, "bars": True}


def get_verbosity():
    return state["verbosity"]


def set_verbosity(verbosity):
    state["verbosity"] = verbosity


def set_verbosity_error():
    state["verbosity"] = 40


def is_progress_bar_enabled():
    return state["bars"]


def disable_progress_bar():
    state["bars"] = False


def enable_progress_bar():
    state["bars"] = True
