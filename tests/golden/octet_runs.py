"""Running `octet` from the truth checks: importing a GGUF and scoring token files with a logits dump.

Environment: OCTET (the program), OCTET_BUILD (a folder that may be written to), MPIRUN (default mpirun).
"""
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np

SKIPPED = 77


def skip(reason):
    print("skipped: " + reason)
    sys.exit(SKIPPED)


def work_folder():
    """A folder of this process, removed at exit."""
    return tempfile.TemporaryDirectory(prefix="truth-", dir=os.environ.get("OCTET_BUILD"))


def run(arguments, ranks=None):
    """Runs octet, alone or with `ranks` processes; its standard output. Ends the check if it fails."""
    command = [os.environ["OCTET"], *arguments]
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    if ranks is not None:
        launcher = os.environ.get("MPIRUN", "mpirun")
        version = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False).stdout
        extra = ["--oversubscribe", "--bind-to", "none"] if "Open MPI" in version or "OpenRTE" in version else []
        command = [launcher, *extra, "-np", str(ranks), *command]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode != 0:
        print(f"FAILED: {' '.join(command)} returned {done.returncode}, expected 0")
        sys.exit(1)
    return done.stdout


def logits(model, tokens, vocabulary, folder, options=(), ranks=None):
    """The logits [rows, vocabulary] that `octet score` writes for a token file, and its JSON output."""
    out = os.path.join(folder, f"logits-{ranks or 'alone'}")
    text = run(["score", model, "--tokens", tokens, "--logits", out, "--json", *options], ranks)
    values = np.memmap(out, dtype="<f4", mode="r")
    if values.size == 0 or values.size % vocabulary:
        print(f"FAILED: {out} holds {values.size} numbers, expected a multiple of {vocabulary}")
        sys.exit(1)
    return values.reshape(-1, vocabulary), text


def import_model(source, folder):
    model = os.path.join(folder, "model.h5")
    if os.path.exists(model):
        os.remove(model)
    run(["import", source, "-o", model])
    return model


def require_program():
    if "OCTET" not in os.environ or shutil.which(os.environ["OCTET"]) is None:
        print("FAILED: the environment variable OCTET must name the octet program")
        sys.exit(1)
