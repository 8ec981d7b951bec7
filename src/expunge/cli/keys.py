"""`expunge keys`: a key to sign runs with."""

from expunge.cli.session import Given


def keys(*, session: Given) -> int:
    """Make the key that signs runs, where there is none, and show its fingerprint.

    Give the public key to those who verify your runs: `expunge verify RUN --key FILE.pub`.
    """
    from expunge.provenance.signature import key_fingerprint, make_signing_key, signing_key_path

    path = signing_key_path()
    key = make_signing_key(path)
    public = path.with_name(f"{path.name}.pub")
    console, fingerprint = session.console, key_fingerprint(key.public)
    console.line("key", f"{path}   for its owner only: who has it can sign in your name")
    console.line("public", f"{public}   give it to those who verify your runs")
    console.line("print", fingerprint)
    console.event("done", {"public_key": public, "fingerprint": fingerprint, "exit": 0})
    return 0
