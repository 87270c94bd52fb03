-- What the judge's replies cost. Ids are 64 hex digits of a hash; their 64-bit hash is a quarter of
-- the size, and two of ten million are alike once in 400,000 times.
select
    hash(reply_id) as reply_key,
    model, prompt_tokens, completion_tokens, cost_usd
from {{ source('lake', 'llm_replies') }}
where stage in ('single_verdicts', 'pairwise_verdicts')
    -- A lost call has no reply, and so no verdict.
    and status is distinct from 'lost'
