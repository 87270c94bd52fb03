select * from {{ ref('answer_scores').include(database=false) }}
