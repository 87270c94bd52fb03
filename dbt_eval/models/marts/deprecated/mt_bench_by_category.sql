select * from {{ ref('answer_scores_by_category').include(database=false) }}
