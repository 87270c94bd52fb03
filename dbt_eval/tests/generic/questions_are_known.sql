{#- Verdicts on questions that no benchmark has (any more). -#}
{% test questions_are_known(model, kind) %}
select * from interim.stray_verdicts where kind = '{{ kind }}'
{% endtest %}
