select * from {{ ref('answer_scores_all').include(database=false) }}
