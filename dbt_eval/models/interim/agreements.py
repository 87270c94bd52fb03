"""How often judges agree, with Cohen's kappa, from how often their votes met."""

CELLS = """
with cells as (
    select benchmark, judge_a, judge_b, turn, vote_a, vote_b, often from interim.agreement_cells
    union all
    select benchmark, judge_a, judge_b, 0, vote_a, vote_b, often
    from interim.agreement_cells
    where turn > 0
)

select
    benchmark, judge_a, judge_b, turn, vote_a::bigint as vote_a, vote_b::bigint as vote_b,
    sum(often)::bigint as often
from cells
group by all
order by all
"""


def model(dbt, session):
    from opencs_assets.statistics import estimates

    dbt.ref("agreement_cells")
    session.register(
        "reckoned", estimates.agreements(session.sql(CELLS).to_arrow_table())
    )
    return session.sql("from reckoned")
