"""The secret that signs URLs when no setting gives one. It is a fact of the database, so that all processes agree."""

import secrets

from limner.ports import JobStore, Transaction

FACT = "url_secret"


def url_secret(store: JobStore) -> str:
    """The secret of this database, made when it is asked for the first time. UnavailableError."""

    def find(tx: Transaction) -> str:
        tx.lock([f"fact {FACT}"])
        known = tx.fact(FACT)
        if known is None:
            known = secrets.token_urlsafe(32)
            tx.set_fact(FACT, known)
        return known

    return store.transact(find)
