select
    benchmark,
    question_id,
    category,
    unnest(range(1, len(turns) + 1)) as turn
from {{ source('lake', 'benchmark_questions') }}
