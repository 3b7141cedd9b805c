"""The campaign that benchmarks against a whole stack sell, as a file for `flashgrab up`."""

from pathlib import Path


def write(file: Path, campaign_id: str, quota: int) -> Path:
    """One round, open now and for longer than any run; one coupon a user, devices unlimited."""
    file.write_text(
        f'id = "{campaign_id}"\nname = "Bench"\n'
        '[rule]\nkind = "amount_off"\namount = 3000\nthreshold = 20000\n'
        f'[[rounds]]\nopens_at = "now"\ncloses_at = "+10h"\nquota = {quota}\n'
    )
    return file
