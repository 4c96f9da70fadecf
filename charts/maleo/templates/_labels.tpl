{{- define "maleo.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: maleo
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- /* Criticality of a mission -> PriorityClass of its slots, as JSON. */ -}}
{{- define "maleo.slotClasses" -}}
{{- with .Values.slots.priorityClasses -}}
{{- dict "Safety" .safety.name "Mission" .mission.name "BestEffort" .bestEffort.name | toJson -}}
{{- end -}}
{{- end -}}

{{- define "maleo.isOperator" -}}
request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:maleo-operator'
{{- end -}}
